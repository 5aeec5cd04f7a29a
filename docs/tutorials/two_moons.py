"""Classify two moons with an ODE block."""

# %% [markdown]
# # Classify two moons
#
# Two classes of points lie in the plane like two interlocked moons. No line parts them. An ODE
# block moves the points until one does: the depth of the network is a time, and its layers are one
# vector field.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import tfnode

keras.utils.set_random_seed(0)
x, y = make_moons(1500, noise=0.1, random_state=0)
x, y = x.astype("float32"), y.astype("float32")
x_train, y_train, x_test, y_test = x[:1000], y[:1000], x[1000:], y[1000:]

# %% [markdown]
# The dynamics are a small network from a state to its velocity. `Augment` adds one channel of
# zeros, so that trajectories have room to pass each other.

# %%
dynamics = keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(3)])
model = keras.Sequential(
    [
        keras.Input((2,)),
        tfnode.layers.Augment(1),
        tfnode.ODEBlock(dynamics, solver="dopri5", gradient="checkpoint", name="ode"),
        keras.layers.Dense(1),
    ]
)
loss = keras.losses.BinaryCrossentropy(from_logits=True)
accuracy = keras.metrics.BinaryAccuracy(threshold=0.0)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=[accuracy])
history = model.fit(x_train, y_train, batch_size=100, epochs=20, verbose=0).history
test_loss, test_accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {100 * test_accuracy:.1f} %")
assert test_accuracy > 0.95

# %% [markdown]
# On the left is what the model says of every point of the plane. On the right are the paths of
# some test points: `odeint` solves the same dynamics at as many times as one likes.

# %%
line = np.linspace(-2.0, 3.0, 80, dtype="float32")
grid = np.stack(np.meshgrid(line, line - 0.25), axis=-1)  # (80, 80, 2)
logits = model.predict(grid.reshape(-1, 2), batch_size=6400, verbose=0).reshape(80, 80)
starts = np.pad(x_test[:150], [[0, 0], [0, 1]])  # (150, 3)
paths = tfnode.odeint(lambda t, y: dynamics(y), starts, np.linspace(0.0, 1.0, 30))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
left.contourf(
    grid[..., 0], grid[..., 1], logits, levels=[-50, 0, 50], colors=["#cfe3f2", "#fae6bf"]
)
colors = np.where(y_test[:150] > 0.5, "#e69f00", "#0072b2")
left.scatter(*x_test[:150].T, c=colors, s=8)
left.set(title="classes", xlabel="first coordinate", ylabel="second coordinate")
for path, color in zip(np.moveaxis(paths.numpy(), 1, 0), colors):
    right.plot(path[:, 0], path[:, 1], color=color, linewidth=0.6, alpha=0.6)
right.scatter(*paths.numpy()[-1, :, :2].T, c=colors, s=8)
right.set(title="paths, and states at time 1", xlabel="first coordinate")

# %% [markdown]
# [Augmentation](../augmentation.md) shows a problem that no Neural ODE without the extra channel
# can solve. [Choosing a solver](../solvers.md) says which `solver` and `gradient` to take.
