"""`min_step` and `max_step`: bounds on what the controller chooses."""

import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode.solvers import Dopri5


def _sizes(solver, func, y0, times):
    problem = tfnode.problem.Problem(func, y0, lambda dtype: tf.constant(times, dtype))
    trajectory = solver.integrate(problem.field, problem.y0, problem.times, max_states=2)
    return np.abs(trajectory.record.h[: int(trajectory.number)])


def test_steps_are_bounded():
    y0 = tf.ones([1], tf.float64)

    def func(t, y):
        return -y + tf.sin(t)

    free = _sizes(Dopri5(rtol=1e-3, atol=1e-3), func, y0, [0.0, 20.0])
    assert free.max() > 0.6 and free.min() < 0.3
    longest = _sizes(Dopri5(rtol=1e-3, atol=1e-3, max_step=0.5), func, y0, [20.0, 0.0])
    assert longest.max() <= 0.5 + 1e-12
    shortest = _sizes(Dopri5(rtol=1e-3, atol=1e-3, min_step=0.3), func, y0, [0.0, 20.0])
    assert shortest[:-1].min() >= 0.3
    one = _sizes(Dopri5(first_step=7.0, max_step=2.0), lambda t, y: 0.0 * y, y0, [0.0, 10.0])
    np.testing.assert_allclose(one, 2.0)


def test_a_pulse_that_max_step_finds():
    def pulse(t, y):
        return tf.exp(-0.5 * ((t - 5.0) / 0.01) ** 2) * tf.ones_like(y)

    exact = 0.01 * np.sqrt(2.0 * np.pi)
    y0 = tf.zeros([1], tf.float64)
    find = tf.function(lambda: tfnode.odeint(pulse, y0, [0.0, 10.0], rtol=1e-6, max_step=0.05))
    ys = find()
    np.testing.assert_allclose(ys[-1], [exact], rtol=1e-4)
    np.testing.assert_allclose(tfnode.odeint(pulse, y0, [0.0, 10.0])[-1], [0.0], atol=1e-5)


def test_at_the_smallest_step():
    def stiff(t, y):
        return -1000.0 * (y - tf.cos(t))

    y0, times = tf.zeros([1], tf.float64), [0.0, 0.1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="of the size `min_step` or less"):
        tfnode.odeint(stiff, y0, times, rtol=1e-8, atol=1e-8, min_step=1e-3)
    solver = Dopri5(rtol=1e-8, atol=1e-8, min_step=1e-3, at_min_step="accept")
    ys, stats = tfnode.odeint(stiff, y0, times, solver=solver, return_stats=True)
    assert stats.num_steps <= 100
    np.testing.assert_allclose(ys[-1], [np.cos(0.1)], rtol=1e-2)


def test_each_sample_fails_by_itself():
    solver = Dopri5(rtol=1e-8, atol=1e-8, min_step=1e-3, on_failure="nan")
    rates = tf.constant([[1.0, -1000.0], [1.0, -1.0]], tf.float64)
    ys = tfnode.odeint(
        lambda t, y: tf.stack([y[:, 0] * y[:, 1], tf.zeros_like(t)], 1),
        rates,
        [0.0, 0.1],
        solver=solver,
        independent=True,
    )
    assert np.isnan(ys[-1, 0]).all()
    np.testing.assert_allclose(ys[-1, 1, 0], np.exp(-0.1), rtol=1e-7)


def test_not_finite_dynamics_fail_in_accept_mode():
    solver = Dopri5(min_step=1e-2, at_min_step="accept")
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite beyond"):
        tfnode.odeint(lambda t, y: -tf.sqrt(y - 0.5), tf.ones([1]), [0.0, 9.0], solver=solver)


def test_configs():
    assert "min_step" not in Dopri5().get_config()
    solver = Dopri5(min_step=1e-3, max_step=1.0, at_min_step="accept")
    again = tfnode.solvers.deserialize(tfnode.solvers.serialize(solver))
    assert again.get_config() == solver.get_config()
    assert (again.min_step, again.max_step, again.at_min_step) == (1e-3, 1.0, "accept")
    assert "min_step=0.001" in repr(solver)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_step": 0.0},
        {"max_step": -1.0},
        {"min_step": 2.0, "max_step": 1.0},
        {"min_step": 1.0, "at_min_step": "stop"},
        {"num_steps": 3, "max_step": 1.0},
    ],
)
def test_what_is_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        Dopri5(**arguments)
