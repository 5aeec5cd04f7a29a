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

OMEGA, GAMMA = 2.0, 0.15
times = np.linspace(0.0, 10.0, 40)


def pendulum(omega, gamma):
    """Return the dynamics of a damped pendulum."""

    def dynamics(t, state):
        angle, velocity = tf.unstack(state, axis=-1)
        return tf.stack([velocity, -(omega**2) * tf.sin(angle) - gamma * velocity], axis=-1)

    return dynamics


start = tf.constant([1.5, 0.0], tf.float64)
truth = tfnode.odeint(pendulum(OMEGA, GAMMA), start, times)[:, 0].numpy()
measured = truth + np.random.default_rng(0).normal(scale=0.1, size=truth.shape)

# %% [markdown]
# The logarithms of both numbers are trained, so that they stay above 0. Gradients go through the
# solve into every variable that the dynamics use. The fit begins with the first quarter of the
# data, since a wrong frequency is out of phase later on.

# %%
solver = tfnode.solvers.Dopri5(rtol=1e-4, atol=1e-4)  # The noise is larger by far.
logs = tf.Variable(np.log([1.5, 0.5]))  # Float64, as the state.


@tf.function
def loss_and_gradient(count):
    """Return the mean squared error of the first angles, and its gradient."""
    with tf.GradientTape() as tape:
        omega, gamma = tf.unstack(tf.exp(logs))
        states = tfnode.odeint(
            pendulum(omega, gamma), start, times, solver=solver, gradient="checkpoint"
        )
        loss = tf.reduce_mean((states[:, 0] - measured)[:count] ** 2)
    return loss, tape.gradient(loss, logs)


optimizer = keras.optimizers.Adam(0.05)
for step in range(120):
    loss, gradient = loss_and_gradient(tf.constant(10 if step < 40 else 40))
    optimizer.apply([gradient], [logs])
omega, gamma = np.exp(logs.numpy())
print(f"omega {omega:.3f}, is {OMEGA}; gamma {gamma:.3f}, is {GAMMA}; loss {float(loss):.4f}")
assert abs(omega - OMEGA) < 0.02 and abs(gamma - GAMMA) < 0.05

# %% [markdown]
# With the numbers found, the solution is there at any time, beyond the measurements, too.

# %%
fine = np.linspace(0.0, 15.0, 300)
figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
axis.plot(fine, tfnode.odeint(pendulum(OMEGA, GAMMA), start, fine)[:, 0], color="0.75", linewidth=4)
axis.plot(fine, tfnode.odeint(pendulum(omega, gamma), start, fine)[:, 0], color="#0072b2")
axis.plot(times, measured, ".", color="0.2")
axis.axvline(times[-1], color="0.5", linestyle=":")
axis.set(xlabel="time", ylabel="angle")
axis.legend(
    ["truth", "fitted", "measured", "end of the data"], loc="center left", bbox_to_anchor=(1, 0.5)
)

# %% [markdown]
# Where the equation is not known, a network takes its place: [Time series](../time_series.md) fits
# one, and has samples with times of their own. [Controls](../controls.md) drives the dynamics by
# measured data.
