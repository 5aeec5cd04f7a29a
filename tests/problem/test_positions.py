"""Dynamics that tell samples by their positions in the batch, of which no part is taken."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode.problem.field.positions import count_samples

F64 = tf.float64
RATES = np.array([[1.0], [2.0], [3.0]])
TABLE = tf.Variable(RATES)
TIMES = tf.constant([[0.0, 0.5], [0.0, 2.0], [0.0, 1.0]], F64)


def by_loop(t, y):
    def body(i, rates):
        return i + 1, tf.tensor_scatter_nd_update(rates, [[i]], [TABLE[i]])

    start = tf.constant(0), tf.zeros_like(y)
    return -y * tf.while_loop(lambda i, _: i < tf.shape(y)[0], body, start)[1]


def in_numpy(t, y):
    return tf.ensure_shape(tf.numpy_function(lambda y: -RATES[: len(y)] * y, [y], F64), y.shape)


def positions(y):
    return tf.range(tf.shape(y)[0])


COUNTING = {
    "gather": lambda t, y: -tf.gather(TABLE, positions(y)) * y,
    "range": lambda t, y: -tf.cast(1 + positions(y), F64)[:, tf.newaxis] * y,
    "floats": lambda t, y: -(1.0 + tf.range(tf.cast(tf.shape(y)[0], F64)))[:, tf.newaxis] * y,
    "function": tf.function(lambda t, y: -tf.gather(TABLE, positions(y)) * y, autograph=False),
    "loop": by_loop,
    "loop in a function": tf.function(by_loop, autograph=False),
    "numpy": in_numpy,
    "numpy in a function": tf.function(in_numpy, autograph=False),
    "vectorized_map": lambda t, y: -tf.vectorized_map(lambda both: both[0] * both[1], (TABLE, y)),
}


@pytest.mark.parametrize("name", COUNTING)
def test_they_are_right(name):
    """The samples end at different times, so that parts of the batch would be evaluated."""
    y = tfnode.odeint(COUNTING[name], tf.ones([3, 1], F64), TIMES, rtol=1e-8, atol=1e-8)[-1]
    np.testing.assert_allclose(y, np.exp(-RATES * TIMES.numpy()[:, 1:]), rtol=1e-6)


def hamiltonian(t, y):
    with tf.GradientTape() as tape:
        tape.watch(y)
        energy = tf.reduce_sum(y**4)
    return tape.gradient(energy, y)


def layer(layer):
    layer.build((None, 2))
    return lambda t, y: layer(y)


OTHERS = {
    "time": lambda t, y: -y * t[:, tf.newaxis],
    "dense": layer(keras.layers.Dense(2, dtype="float64")),
    "group": layer(keras.layers.GroupNormalization(1, dtype="float64")),
    "layer": layer(keras.layers.LayerNormalization(dtype="float64")),
    "tape": hamiltonian,
    "shape": lambda t, y: tf.reshape(tf.ones(tf.shape(y), F64), [tf.shape(y)[0], -1]) - y,
    "path": lambda t, y: PATH(t) - y,
    "mean": lambda t, y: y - tf.reduce_mean(y, 1, keepdims=True),
}
PATH = tfnode.interpolation.Hermite(np.linspace(0.0, 1.0, 5)[np.newaxis], np.ones((3, 5, 2)))


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_evaluated_in_parts(name):
    specs = tf.TensorSpec([None], F64), tf.TensorSpec([None, 2], F64)
    traced = tf.function(OTHERS[name], autograph=False).get_concrete_function(*specs)
    assert not count_samples(traced.graph)
