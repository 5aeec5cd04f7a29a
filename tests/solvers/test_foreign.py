import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from problems import PROBLEMS

import tfnode

SOLVERS = {
    "dormand_prince": lambda: tfp.math.ode.DormandPrince(rtol=1e-8, atol=1e-8),
    "bdf": lambda: tfnode.solvers.BDF(rtol=1e-7, atol=1e-9),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("key", ["gaussian", "reverse"])
@pytest.mark.few(2)
def test_solution_in_both_directions(name, key):
    problem = PROBLEMS[key]
    times = np.linspace(problem.t0, problem.t1, 3)
    ys, stats = tf.function(
        lambda: tfnode.odeint(
            problem.func, problem.y0, times, solver=SOLVERS[name](), return_stats=True
        )
    )()
    expected = np.stack([problem.solution(t) for t in times])
    np.testing.assert_allclose(ys, expected, atol=1e-5)
    assert int(stats.num_evaluations) > 10


def test_gradients():
    k = tf.Variable(0.8, dtype=tf.float64)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            y = tfnode.odeint(
                lambda t, y: -k * t * y,
                tf.constant([1.0], tf.float64),
                [0.0, 1.0],
                solver=SOLVERS["dormand_prince"](),
            )
            loss = tf.reduce_sum(y[-1])
        return tape.gradient(loss, k)

    np.testing.assert_allclose(run(), -0.5 * np.exp(-0.4), rtol=1e-5)


def test_stiff_problem_and_failure():
    """Prothero and Robinson: dy/dt = -1e4 (y - cos t) - sin t, which follows the cosine."""

    def solve(**kwargs):
        return tf.function(
            lambda: tfnode.odeint(
                lambda t, y: -1e4 * (y - tf.cos(t)) - tf.sin(t),
                tf.constant([1.0], tf.float64),
                [0.0, 3.0],
                solver=tfnode.solvers.BDF(rtol=1e-6, atol=1e-8, **kwargs),
                return_stats=True,
            )
        )()

    ys, stats = solve()
    np.testing.assert_allclose(ys[-1], np.cos([3.0]), atol=1e-4)
    # An explicit method needs about 1e4 * 3 / 3.3 steps for stability alone.
    assert int(stats.num_evaluations) < 2000
    with pytest.raises(tf.errors.InvalidArgumentError, match="bdf failed") as error:
        solve(max_steps=3)
    facts = re.search(
        r"on the way to the time\] \[3\] \[last step size =\] \[(.*?)\]", str(error.value)
    )
    assert 0.0 < float(facts.group(1)) < 0.1


def test_budget_of_bdf_is_for_the_whole_solve():
    def solve(outputs):
        method = tfnode.solvers.BDF(rtol=1e-4, atol=1e-4, max_steps=40)
        times = np.linspace(0.0, 3.0, outputs)
        return tf.function(
            lambda: tfnode.odeint(lambda t, y: -y, tf.ones(1), times, solver=method)
        )()

    np.testing.assert_allclose(solve(2)[-1], np.exp([-3.0]), atol=1e-3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="on the way to the time"):
        solve(20)  # BDF lands on each.


def test_config():
    copy = tfnode.solvers.deserialize(tfnode.solvers.serialize(tfnode.solvers.BDF(rtol=0.1)))
    assert copy.get_config() == {"rtol": 0.1, "atol": 1e-6, "max_steps": 4096}
    for kwargs in ({"rtol": 0}, {"max_steps": 0}):
        with pytest.raises(ValueError, match="Received"):
            tfnode.solvers.BDF(**kwargs)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.few(1)
def test_an_initial_state_that_is_not_finite(value):
    y0 = tf.constant([1.0, value], tf.float64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="failed: `y0` is not finite"):
        tf.function(
            lambda: tfnode.odeint(lambda t, y: tf.zeros_like(y), y0, [0.0, 1.0], solver="bdf")
        )()
