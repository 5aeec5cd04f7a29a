"""A run on disk: its folder, its records, its tables. Nothing here imports TensorFlow."""
