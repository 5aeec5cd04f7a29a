"""Fit the parameters of a pendulum to noisy data."""

# %% [markdown]
# # Fit a pendulum to noisy data
#
# The equation is known here, and two numbers in it are not: the frequency $\omega$ and the damping
# $\gamma$ of
#
# $$
# \ddot\varphi = -\omega^2 \sin \varphi - \gamma \dot\varphi.
# $$
#
# There are forty noisy measurements of the angle. `odeint` solves the equation, its gradient fits
# the numbers.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tfnode

times = np.linspace(0.0, 10.0, 40)
start = tf.constant([1.5, 0.0], tf.float64)  # The angle, and its velocity.
solver = tfnode.solvers.Dopri5(rtol=1e-4, atol=1e-4)  # The noise is larger by far.


@tf.function
def angles(numbers, times):
    """Return the angle at some times for omega and gamma, compiled."""
    omega, gamma = tf.unstack(numbers)

    def dynamics(t, state):
        angle, velocity = tf.unstack(state)
        return tf.stack([velocity, -(omega**2) * tf.sin(angle) - gamma * velocity])

    return tfnode.odeint(dynamics, start, times, solver=solver, gradient="checkpoint")[:, 0]


truth = tf.constant([2.0, 0.15], tf.float64)
noise = np.random.default_rng(0).normal(scale=0.1, size=times.shape)
measured = angles(truth, times) + noise

# %% [markdown]
# The logarithms of both numbers are trained, so that they stay above 0. Gradients go through the
# solve into every variable that the dynamics use. The fit begins with the first quarter of the
# data, since a wrong frequency is out of phase later on.

# %%
logs = tf.Variable(np.log([1.5, 0.5]))  # Float64, as the state.


@tf.function
def loss_and_gradient(count):
    """Return the mean squared error of the first angles, and its gradient."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((angles(tf.exp(logs), times) - measured)[:count] ** 2)
    return loss, tape.gradient(loss, logs)


optimizer = keras.optimizers.Adam(0.05)
for step in range(120):
    loss, gradient = loss_and_gradient(tf.constant(10 if step < 40 else 40))
    optimizer.apply([gradient], [logs])
fitted = tf.exp(logs)
print(f"omega {fitted[0]:.3f}, is {truth[0]:.3f}; gamma {fitted[1]:.3f}, is {truth[1]:.3f}")
assert np.abs(fitted - truth).max() < 0.05

# %% [markdown]
# With the numbers found, the solution is there at any time, beyond the measurements, too.

# %%
fine = np.linspace(0.0, 15.0, 150)
figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
axis.plot(fine, angles(truth, fine), color="0.75", linewidth=4)
axis.plot(fine, angles(fitted, fine), color="#0072b2")
axis.plot(times, measured, ".", color="0.2")
axis.axvline(times[-1], color="0.5", linestyle=":")
axis.set(xlabel="time", ylabel="angle")
axis.legend(
    ["truth", "fitted", "measured", "end of the data"], loc="center left", bbox_to_anchor=(1, 0.5)
)

# %% [markdown]
# Where the equation is not known, a network takes its place: [Time series](../time_series.md) fits
# one, and has samples with times of their own. [Controls](../batches.md) drives the dynamics by
# measured data.
