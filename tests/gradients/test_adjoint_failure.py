"""Failures of the adjoint's backward solve, by fixed and by adaptive steps."""

import numpy as np
import pytest
import tensorflow as tf
from problems import MODES

import tfnode


@pytest.mark.parametrize("mode", ["function", "xla"])
@pytest.mark.parametrize("name", ["rk4", "dopri5"])
def test_failure_of_the_backward_solve(name, mode):
    """The field is finite everywhere, its derivative nowhere."""

    @tf.custom_gradient
    def decay(y):
        return -y, lambda upstream: upstream * float("nan")

    @MODES[mode]
    def run():
        y0 = tf.constant([1.0])
        with tf.GradientTape() as tape:
            tape.watch(y0)
            y = tfnode.odeint(
                lambda t, y: decay(y), y0, [0.0, 1.0], solver=name, gradient="adjoint"
            )[-1]
        return y, tape.gradient(y, y0)

    if mode == "xla":
        y, slope = run()
        assert np.isfinite(y)
        assert np.isnan(slope)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?i){name} failed"):
            run()


@pytest.mark.parametrize("name", ["rk4", "dopri5"])
def test_gradients_that_arrive_as_nan_are_no_failure_of_the_solve(name):
    """As where a loss that was scaled for float16 overflows: Keras waits for NaN."""
    w = tf.Variable(0.5)

    @tf.function
    def run():
        y0 = tf.constant([1.0])
        with tf.GradientTape() as tape:
            tape.watch(y0)
            y = tfnode.odeint(lambda t, y: -w * y, y0, [0.0, 1.0], solver=name, gradient="adjoint")[
                -1
            ]
        return tape.gradient(y, [y0, w], tf.constant([np.inf]))

    for result in run():
        assert np.isnan(result).all()
