"""Tolerances by component, as in SciPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import solve_ivp

import tfnode
from tfnode.solvers import Dopri5

Y0, TIMES = [1.0, 1e4], [0.0, 10.0]
ATOL, RTOL = [1e-9, 1e-1], [1e-4, 1e-9]


def func(t, y):
    return tf.stack([-y[..., 0] * tf.cos(t), -0.1 * y[..., 1]], -1)


def test_they_are_those_of_scipy():
    """The same norm: about the same number of steps, and not that of either number for both."""
    solver = Dopri5(rtol=RTOL, atol=ATOL, first_step=0.1)
    ys, stats = tfnode.odeint(
        func, tf.constant(Y0, tf.float64), TIMES, solver=solver, return_stats=True
    )
    reference = solve_ivp(
        lambda t, y: [-y[0] * np.cos(t), -0.1 * y[1]],
        TIMES,
        Y0,
        rtol=np.array(RTOL),
        atol=ATOL,
        first_step=0.1,
    )
    assert abs(int(stats.num_steps) - (len(reference.t) - 1)) <= 4
    np.testing.assert_allclose(ys[-1], reference.y[:, -1], rtol=1e-3)
    loose = tfnode.odeint(
        func, tf.constant(Y0, tf.float64), TIMES, rtol=1e-4, atol=1e-1, return_stats=True
    )
    assert loose[1].num_steps < stats.num_steps


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.few(1)
def test_gradients(gradient):
    y0 = tf.Variable([Y0, Y0], dtype=tf.float64)
    with tf.GradientTape() as tape:
        solver = Dopri5(rtol=[1e-8, 1e-9], atol=[1e-8, 1e-4])
        ys = tfnode.odeint(func, y0, TIMES, solver=solver, gradient=gradient, independent=True)
        end = tf.reduce_sum(ys[-1])
    expected = [np.exp(-np.sin(10.0)), np.exp(-1.0)]
    np.testing.assert_allclose(tape.gradient(end, y0), [expected] * 2, rtol=1e-6)


def test_configs_and_refusals():
    solver = Dopri5(rtol=np.array(RTOL), atol=ATOL)
    again = tfnode.solvers.deserialize(tfnode.solvers.serialize(solver))
    assert again.rtol == tuple(RTOL) and again.get_config() == solver.get_config()
    for wrong in ([1e-3, 0.0], [], "tight", [[1e-3]]):
        with pytest.raises(ValueError, match="`rtol` must be finite numbers above 0"):
            Dopri5(rtol=wrong)
    with pytest.raises(ValueError, match="2 numbers, a state of shape \\(3,\\)"):
        tfnode.odeint(lambda t, y: -y, tf.ones([3]), TIMES, solver=solver)
