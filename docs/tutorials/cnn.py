"""A convolutional network with an ODE block."""

# %% [markdown]
# # A CNN with an ODE block
#
# An `ODEBlock` stands in a convolutional network where residual blocks would stand: one set of
# weights in place of a stack of them. The data are the digits that come with scikit-learn, so
# nothing is downloaded.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfnode

keras.utils.set_random_seed(0)
digits = tfnode.data.load("digits")
x_train, x_test = digits.x_train / np.float32(255), digits.x_test / np.float32(255)
print(x_train.shape, x_test.shape)

# %% [markdown]
# `ConvDynamics` are two convolutions with the time as a channel. Group normalisation needs no
# running averages, which for batch normalisation depend on the time. One step of `rk4` is four
# evaluations of the field. `checkpoint` takes the exact gradient of them.

# %%
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 3, strides=3),
        tfnode.ODEBlock(
            tfnode.layers.ConvDynamics(16, norm="group"), solver="rk4", gradient="checkpoint"
        ),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
model.compile(
    keras.optimizers.Adam(5e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
print(f"{model.count_params():,} parameters")

# %% [markdown]
# It trains like any Keras model. `SolverStats` counts the evaluations of each solve along with the
# loss.

# %%
history = model.fit(
    *(x_train, digits.y_train),
    batch_size=64,
    epochs=6,
    validation_data=(x_test, digits.y_test),
    callbacks=[tfnode.callbacks.SolverStats()],
    verbose=0,
).history
print(f"test accuracy {100 * history['val_accuracy'][-1]:.1f} %")
print(
    f"evaluations: {history['nfe_forward'][-1]:g} forward, {history['nfe_backward'][-1]:g} backward"
)
assert max(history["val_accuracy"]) > 0.9

# %%
epochs = range(1, 7)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.0), layout="constrained")
left.semilogy(epochs, history["loss"], color="0.6", label="training")
left.semilogy(epochs, history["val_loss"], color="#0072b2", label="test")
right.plot(epochs, 100 * np.array(history["accuracy"]), color="0.6")
right.plot(epochs, 100 * np.array(history["val_accuracy"]), color="#0072b2")
left.set(xlabel="epoch", ylabel="loss")
right.set(xlabel="epoch", ylabel="accuracy, %")
figure.legend(loc="outside right upper")

# %% [markdown]
# A larger network of this kind, on MNIST and with resuming, is `python train.py --model=ode`:
# [Training and serving in practice](../practice.md). Next: [serve a
# model](../tutorials/serving.py).
