import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from problems import MODES, PROBLEMS

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

FIXED = solvers.FIXED_STEP


def solver(name, **kwargs):
    return type(solvers.get(name))(**kwargs)


def error(name, problem, steps):
    """Error at the last time."""
    times = [problem.t0, problem.t1]
    method = solver(name, num_steps=steps)
    ys = tf.function(lambda: tfnode.odeint(problem.func, problem.y0, times, solver=method))()
    return np.abs(ys[-1] - problem.solution(problem.t1)).max()


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("key", PROBLEMS)
def test_empirical_order(name, key):
    steps = np.array([64, 96, 128])
    errors = [error(name, PROBLEMS[key], int(n)) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(solver(name).tableau.order, abs=0.1)


@pytest.mark.parametrize("name", FIXED)
def test_states_at_all_times_and_stats(name):
    problem = PROBLEMS["linear"]
    times = np.linspace(0.0, 1.0, 6)
    method = solver(name, num_steps=40)
    ys, stats = tfnode.odeint(problem.func, problem.y0, times, solver=method, return_stats=True)
    expected = np.stack([problem.solution(t) for t in times])
    tolerance = 0.05 if method.tableau.order == 1 else 2e-4
    np.testing.assert_allclose(ys, expected, atol=tolerance)
    np.testing.assert_array_equal(ys[0], problem.y0)
    assert (int(stats.num_steps), int(stats.num_rejected)) == (200, 0)
    assert int(stats.num_evaluations) == 200 * method.tableau.stages


def test_evaluations_are_really_made():
    """The counter against a counter in the vector field."""
    calls = tf.Variable(0)

    def func(t, y):
        calls.assign_add(1)
        return -y

    _, stats = tf.function(
        lambda: tfnode.odeint(
            func, tf.ones(2), [0.0, 1.0, 3.0], solver=solver("rk38", num_steps=7), return_stats=True
        )
    )()
    assert int(calls) == int(stats.num_evaluations) == 2 * 7 * 4


def test_vector_field_is_never_evaluated_outside_the_interval():
    seen = []

    def func(t, y):
        tf.py_function(lambda t: seen.append(float(t)), [t], [])
        return -y

    for times in ([0.0, 1.0], [1.0, 0.0]):
        seen.clear()
        tf.function(lambda t=times: tfnode.odeint(func, tf.ones(1), t, solver="rk38"))()
        assert len(seen) == 4
        assert min(seen) >= 0.0
        assert max(seen) <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("size", "times", "steps"),
    [(0.1, [0.0, 1.0], 10), (0.3, [0.0, 1.0, 1.1], 5), (0.25, [2, 1], 4)],
)
def test_step_size(size, times, steps):
    method = solver("rk4", step_size=size)
    ys, stats = tfnode.odeint(
        lambda t, y: -y, tf.constant([1.0], tf.float64), times, solver=method, return_stats=True
    )
    assert int(stats.num_steps) == steps
    np.testing.assert_allclose(ys[-1], np.exp([times[0] - times[-1]]), rtol=1e-4)


@pytest.mark.parametrize("size", [1e-12, 5e-324])
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_more_steps_than_can_be_counted(size, gradient):
    def solve():
        method = solver("euler", step_size=size)
        return tfnode.odeint(
            lambda t, y: -y, tf.constant([1.0]), [0.0, 1.0], solver=method, gradient=gradient
        )

    for function in (solve, tf.function(solve)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"step_size.*Received"):
            function()
    assert np.isnan(tf.function(solve, jit_compile=True)()[1])


def facts_of(error):
    """The time reached, the steps and the last step size that an error tells."""
    names = ("time reached", "steps", "last step size")
    pattern = ".*?".join(rf"{name} =[^-\d]*([-.\d]+)" for name in names)
    return [float(x) for x in re.search(pattern, str(error.value), re.DOTALL).groups()]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize(
    ("times", "steps", "facts"),
    [
        ([0.0, 2.0], 1, (0.0, 0, 2.0)),
        ([0.0, 2.0], 20, (0.7, 7, 0.1)),
        ([0.0, 0.5, 2.0], 20, (0.725, 23, 0.075)),
        ([2.0, 0.0], 20, (2.0, 0, -0.1)),
    ],
    ids=str,
)
def test_failure_is_an_error(mode, gradient, times, steps, facts):
    """The field is NaN after 0.72."""

    @MODES[mode]
    def run():
        y0 = tf.constant([1.0])
        with tf.GradientTape() as tape:
            tape.watch(y0)
            ys = tfnode.odeint(
                lambda t, y: tf.where(t > 0.72, np.nan, -1.0) * y,
                y0,
                times,
                solver=solver("midpoint", num_steps=steps),
                gradient=gradient,
            )
        return ys, tape.gradient(ys, y0)

    if mode == "xla":
        ys, slope = run()
        assert np.isnan(ys[1:]).all()
        assert np.isnan(slope).all()
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="Midpoint failed") as error:
        run()
    np.testing.assert_allclose(facts_of(error), facts, atol=1e-6)


def test_failure_from_the_start():
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        tfnode.odeint(
            lambda t, y: -y, tf.constant([np.nan]), [5.0, 6.0], solver=solver("rk4", num_steps=4)
        )
    assert facts_of(error) == [5.0, 0.0, 0.25]


def test_many_steps_do_not_grow_the_graph():
    def size(steps):
        graph = tf.function(
            lambda y: tfnode.odeint(
                lambda t, y: -y, y, [0.0, 1.0], solver=solver("rk4", num_steps=steps)
            )
        ).get_concrete_function(tf.TensorSpec([None, 2]))
        return len(graph.graph.as_graph_def(add_shapes=False).SerializeToString())

    assert size(1000) < 1.01 * size(10)


@pytest.mark.parametrize("name", FIXED)
def test_serves_tfp(name):
    """TFP's own `solve`, with its own adjoint, its diagnostics and `ChosenBySolver`."""
    rate = tf.Variable(0.7, dtype=tf.float64)
    method = solver(name, num_steps=200)

    def solve():
        with tf.GradientTape() as tape:
            results = method.solve(
                lambda t, y: -rate * y, 0.0, tf.constant([2.0], tf.float64), [0.5, 1.0]
            )
            loss = results.states[-1, 0]
        return results.states, results.diagnostics.num_ode_fn_evaluations, tape.gradient(loss, rate)

    states, evaluations, gradient = tf.function(solve)()
    np.testing.assert_allclose(states[:, 0], 2 * np.exp([-0.35, -0.7]), rtol=2e-3)
    np.testing.assert_allclose(gradient, -2 * np.exp(-0.7), rtol=4e-3)
    assert int(evaluations) == 2 * 200 * method.tableau.stages
    chosen = solver(name, num_steps=4).solve(
        lambda t, y: -y, 0.0, tf.constant([2.0]), tfp.math.ode.ChosenBySolver(1.0)
    )
    np.testing.assert_allclose(chosen.times, [0.25, 0.5, 0.75, 1.0])
    assert chosen.states.shape == (4, 1)


@pytest.mark.parametrize("dtype", [tf.int32, tf.complex64])
def test_tfps_solve_refuses_states_that_are_no_floats(dtype):
    with pytest.raises(TypeError, match=f"floating point dtype.*Received: dtype={dtype.name}"):
        solver("rk4").solve(lambda t, y: -y, 0.0, tf.constant([2], dtype), [1.0])


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_steps": 0},
        {"num_steps": 1.5},
        {"num_steps": True},
        {"step_size": 0.0},
        {"step_size": float("nan")},
        {"step_size": "x"},
        {"num_steps": 2, "step_size": 0.1},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match="Received"):
        solver("rk4", **kwargs)
    assert solver("rk4").num_steps == 1


def test_get_serialize_deserialize():
    method = solver("rk38", num_steps=3)
    copy = solvers.deserialize(solvers.serialize(method))
    assert type(copy) is solvers.RK38
    assert copy.get_config() == method.get_config() == {"num_steps": 3, "step_size": None}
    assert solvers.get(method) is method
    assert type(solvers.get("RK4")) is solvers.RK4
    for bad in ("rk5", 3, None, {"class_name": "Dense"}):
        with pytest.raises(ValueError, match="Received"):
            solvers.get(bad)
    with pytest.raises(ValueError, match="euler"):
        solvers.get("rk5")
    with pytest.raises(ValueError, match="get_config"):
        solvers.serialize(tfp.math.ode.DormandPrince())
