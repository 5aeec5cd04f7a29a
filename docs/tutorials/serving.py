"""Save, export and serve a model with an ODE block."""

# %% [markdown]
# # Serve a model
#
# A trained model leaves the program that made it in one of two forms: a `.keras` file, which
# another program loads after `import tfnode`, and a SavedModel, which needs neither tfnode nor
# Keras.

# %%
import json

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tfnode

keras.utils.set_random_seed(0)
digits = tfnode.data.load("digits")
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Rescaling(1 / 255),  # Clients send pixels as they are.
        keras.layers.Conv2D(16, 3, strides=3),
        tfnode.ODEBlock(tfnode.layers.ConvDynamics(16, norm="group"), solver="rk4"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"])
model.fit(digits.x_train, digits.y_train, batch_size=64, epochs=3, verbose=0)

# %% [markdown]
# The `.keras` file has the solver, the gradient and the dynamics, so the loaded model trains on.

# %%
model.save("digits.keras")
loaded = keras.models.load_model("digits.keras")
images = digits.x_test[:8].astype("float32")
expected = model.predict(images, verbose=0)
np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, rtol=1e-5, atol=1e-5)
print(loaded.layers[2].solver)

# %% [markdown]
# `export` writes a SavedModel. The folder `1` is the version, as TensorFlow Serving wants it.

# %%
model.export("serving/digits/1", verbose=False)
served = tf.saved_model.load("serving/digits/1")
answer = served.serve(images).numpy()
np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)
print("digits:", answer.argmax(axis=1), "are", digits.y_test[:8])

# %%
figure, axes = plt.subplots(1, 8, figsize=(8, 1.4), layout="constrained")
for axis, image, digit in zip(axes, images, answer.argmax(axis=1)):
    axis.imshow(image[..., 0], cmap="gray_r")
    axis.set(title=f"served: {digit}", xticks=[], yticks=[])

# %% [markdown]
# A request to TensorFlow Serving is JSON, and so is its response:
#
# ```bash
# docker run -p 8501:8501 -v "$PWD/serving/digits:/models/digits" \
#     -e MODEL_NAME=digits tensorflow/serving
# curl -d @request.json http://localhost:8501/v1/models/digits:predict
# ```

# %%
with open("request.json", "w") as file:
    json.dump({"instances": images.tolist()}, file)

# %% [markdown]
# A run of `train.py` has its own commands for this, which check the artefact's predictions and
# write ONNX and TensorFlow Lite, too: [Serving](../practice.md#serving).
