"""`odeint`, `ODEBlock`, `odeint_event`: every solver and gradient, in every mode of execution."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import MODES

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

FIXED, ADAPTIVE = solvers.FIXED_STEP, solvers.ADAPTIVE
GRADIENTS = ["adjoint", "checkpoint", "backprop"]
CELLS = [(name, gradient) for name in [*FIXED, *ADAPTIVE] for gradient in GRADIENTS]
CELLS.append(("bdf", "adjoint"))
RATE = 0.7


def make(name):
    solver = type(solvers.get(name))
    if name in FIXED:
        return solver(num_steps=8)
    return solver(rtol=1e-5, atol=1e-5, max_steps=128)


class Decay(keras.layers.Layer):
    """dy/dt = -RATE y."""

    def build(self, shape):
        self.rate = self.add_weight(shape=(), initializer=keras.initializers.Constant(RATE))

    def call(self, y):
        return -self.rate * y


@pytest.mark.parametrize(
    ("name", "gradient"),
    [
        pytest.param(*cell, marks=[] if cell == ("bosh3", "checkpoint") else pytest.mark.slow)
        for cell in CELLS
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_values_and_gradients(mode, name, gradient):
    """y(1) = exp(-RATE) y(0), and y = 1/2 at t = log(2) / RATE; their gradients in the rate."""
    rate = tf.Variable(RATE, dtype=tf.float64)
    block = tfnode.ODEBlock(Decay(dtype="float64"), make(name), gradient, dtype="float64")
    y0 = tf.ones([1, 1], tf.float64)
    block.build(y0.shape)

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            y = tfnode.odeint(
                lambda t, y: -rate * y, y0, [0.0, 1.0], solver=make(name), gradient=gradient
            )[-1]
        with tf.GradientTape() as block_tape:
            z = block(y0, training=True)
        return y, tape.gradient(y, rate), z, block_tape.gradient(z, block.trainable_variables)[0]

    error = {"euler": 0.1, "midpoint": 1e-2, "heun": 1e-2, "bdf": 1e-2}.get(name, 1e-3)
    for found, expected in zip(run(), 2 * [np.exp(-RATE), -np.exp(-RATE)]):
        np.testing.assert_allclose(np.squeeze(found), expected, rtol=error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("mode", MODES)
def test_events(mode, gradient, name):
    rate = tf.Variable(RATE, dtype=tf.float64)

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            t, _ = tfnode.odeint_event(
                lambda t, y: -rate * y,
                tf.ones([1], tf.float64),
                0.0,
                lambda t, y: y[0] - 0.5,
                solver=make(name),
                gradient=gradient,
            )
        return t, tape.gradient(t, rate)

    for found, expected in zip(run(), [np.log(2) / RATE, -np.log(2) / RATE**2]):
        np.testing.assert_allclose(found, expected, rtol=1e-3)
