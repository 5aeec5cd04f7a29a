"""Custom gradients: TensorFlow's, and graphs that end with their last user."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

import tfnode


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.few(1)
def test_the_graph_of_a_solve_ends_with_its_function(gradient):
    names = set(ops.gradient_registry.list())

    def trace():
        @tf.function
        def loss(k):
            with tf.GradientTape() as tape:
                tape.watch(k)
                # A solve in a loop: the graph of its body ends before that of the function.
                y = tf.ones([1], tf.float64)
                for _ in tf.range(2):
                    y = tfnode.odeint(
                        lambda t, y: -k * y, y, [0.0, 0.5, 1.0], gradient=gradient, rtol=1e-9
                    )[-1]
            return tape.gradient(y, k)

        traced = loss.get_concrete_function(tf.TensorSpec([], tf.float64))
        np.testing.assert_allclose(traced(tf.constant(1.0, tf.float64)), -2 * np.exp(-2), rtol=1e-5)
        return weakref.ref(traced.graph)

    graph = trace()
    gc.collect()
    assert graph() is None
    assert set(ops.gradient_registry.list()) == names


def test_a_graph_that_lives_keeps_its_gradient():
    @tf.function
    def decay(k):
        return tfnode.odeint(lambda t, y: -k * y, tf.ones([1], tf.float64), [0.0, 1.0], rtol=1e-9)

    # Traced without a tape, and differentiated after the rest is gone.
    decay.get_concrete_function(tf.TensorSpec([], tf.float64))
    gc.collect()
    k = tf.constant(0.7, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(k)
        y = decay(k)[-1]
    np.testing.assert_allclose(tape.gradient(y, k), -np.exp(-0.7), rtol=1e-5)
