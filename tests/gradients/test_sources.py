"""What dynamics may close over, beside variables and real tensors, and where they are evaluated."""

import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "checkpoint", "backprop"]
RATE = 0.7
EXPECTED = -2.0 * np.exp(-RATE)  # Of the sum of two states in the rate.


def loss(func, gradient, solver=None):
    """Of dy/dt = -RATE y from 0 to 1, if that is what `func` is."""
    solver = solver or solvers.RK4(num_steps=20)
    y0 = tf.ones([2], tf.float64)
    return tf.reduce_sum(tfnode.odeint(func, y0, [0.0, 1.0], solver=solver, gradient=gradient)[-1])


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_complex_tensors_and_variables(gradient):
    real = tf.constant(RATE, tf.float64)
    variable = tf.Variable(1.0 + 0.0j, dtype=tf.complex128)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(real)
            number = tf.complex(real, tf.zeros_like(real))
            value = loss(lambda t, y: -tf.math.real(variable * number) * y, gradient)
        return tape.gradient(value, [real, variable])

    by_real, by_variable = run()
    np.testing.assert_allclose(by_real, EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(by_variable, RATE * EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
def test_a_tensor_array(gradient):
    """Its gradient is refused, not lost; without one, or by its stack, all is well."""
    rate = tf.constant(RATE, tf.float64)
    other = tf.Variable(1.0, dtype=tf.float64)

    @tf.function
    def run(watch, stack):
        with tf.GradientTape() as tape:
            if watch:
                tape.watch(rate)
            array = tf.TensorArray(tf.float64, 1, clear_after_read=False).write(0, rate)
            stacked = array.stack()

            def func(t, y):
                return -(stacked[0] if stack else array.read(0)) * other * y

            value = loss(func, gradient)
        return tape.gradient(value, rate if watch else other)

    with pytest.raises(NotImplementedError, match="TensorArray.*stack"):
        run(True, False)
    np.testing.assert_allclose(run(True, True), EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(run(False, False), RATE * EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
@pytest.mark.parametrize("solver", [solvers.RK4(num_steps=20), solvers.Bosh3()], ids=["fixed", "a"])
@pytest.mark.parametrize("xla", [False, True], ids=["", "xla"])
def test_never_outside_the_interval(solver, gradient, xla):
    """Not even by rounding: t0 + 19 h + h is above t1, and below it on the way back."""
    rate = tf.Variable(RATE, dtype=tf.float64)

    def func(t, y):
        return tf.where((t >= 0.0) & (t <= 1.0), -rate, np.nan) * y

    @tf.function(jit_compile=xla)
    def run():
        with tf.GradientTape() as tape:
            value = loss(func, gradient, solver)
        return tape.gradient(value, rate)

    np.testing.assert_allclose(run(), EXPECTED, rtol=1e-2 if solver.name == "Bosh3" else 1e-6)


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
def test_dynamics_that_are_recomputed(gradient):
    """`tf.recompute_grad`, and so `keras.remat`, has a tape in its gradient."""
    rate = tf.Variable(RATE, dtype=tf.float64)
    again = tf.recompute_grad(lambda y: -rate * y)
    with tf.GradientTape() as tape:
        value = loss(lambda t, y: again(y), gradient)
    np.testing.assert_allclose(tape.gradient(value, rate), EXPECTED, rtol=1e-6)
