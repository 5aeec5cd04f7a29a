"""Files that callbacks write and commands read: whole files, histories, figures. No TensorFlow."""
