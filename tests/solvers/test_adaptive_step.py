import numpy as np
import pytest
import tensorflow as tf
from problems import MODES, PROBLEMS
from scipy.integrate import solve_ivp

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

TABLEAUX = {name: solvers.get(name).tableau for name in solvers.ADAPTIVE}
# Those without dense output are for tolerances tighter than these: see `test_detest.py`.
ADAPTIVE = [name for name, tableau in TABLEAUX.items() if tableau.dense is not None]
DENSE_ORDER = {name: min(TABLEAUX[name].order, len(TABLEAUX[name].dense[0])) for name in ADAPTIVE}


def solver(name, **kwargs):
    return type(solvers.get(name))(**kwargs)


def solve(problem, times, method):
    return tf.function(
        lambda: tfnode.odeint(problem.func, problem.y0, times, solver=method, return_stats=True)
    )()


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("key", PROBLEMS)
def test_error_follows_the_tolerance(name, key):
    problem = PROBLEMS[key]
    times = np.linspace(problem.t0, problem.t1, 4)
    expected = np.stack([problem.solution(t) for t in times])
    for tolerance in (1e-3, 1e-5) if TABLEAUX[name].order == 2 else (1e-4, 1e-8):
        ys, stats = solve(problem, times, solver(name, rtol=tolerance, atol=tolerance))
        np.testing.assert_allclose(ys, expected, rtol=0, atol=10 * tolerance)
        assert int(stats.num_steps) >= 3


@pytest.mark.parametrize("name", ADAPTIVE)
def test_order_of_the_solution_and_of_the_estimate(name):
    """One step of size h: the error falls like h^(p+1), the estimate like h^p."""
    problem = PROBLEMS["linear"]
    tableau = solver(name).tableau
    sizes = np.array([0.1, 0.15, 0.2])
    errors, estimates = [], []
    for h in sizes:
        stages = []
        y0 = problem.y0.numpy()
        for row in tableau.a:
            y = y0 + h * sum((a * k for a, k in zip(row, stages)), np.zeros(3))
            stages.append(problem.func(0.0, tf.constant(y)).numpy())
        y = y0 + h * sum(b * k for b, k in zip(tableau.b, stages))
        errors.append(np.abs(y - problem.solution(h)).max())
        estimates.append(np.abs(h * sum(b * k for b, k in zip(tableau.b_error, stages))).max())

    def slope(values):
        return np.polyfit(np.log(sizes), np.log(values), 1)[0]

    assert slope(errors) == pytest.approx(tableau.order + 1, abs=0.25)
    assert slope(estimates) == pytest.approx(tableau.order, abs=0.25)


@pytest.mark.parametrize(("name", "order"), DENSE_ORDER.items())
@pytest.mark.parametrize("key", ["linear", "logistic", "gaussian"])
def test_order_of_the_dense_output(name, order, key):
    """Within one step of size h the error falls like h^(q+1)."""
    problem, tableau = PROBLEMS[key], solver(name).tableau

    def error(h):
        def slope(c, y):
            t = tf.constant(problem.t0 + c * h, tf.float64)
            return problem.func(t, tf.constant(y)).numpy()

        y0, stages = problem.y0.numpy(), []
        rows = [*zip(tableau.c, tableau.a), (1.0, tableau.b)][: len(tableau.dense)]
        for c, row in rows:
            y = y0 + h * sum((a * k for a, k in zip(row, stages)), 0.0 * y0)
            stages.append(slope(c, y))
        errors = []
        for theta in (0.2, 0.4, 0.6, 0.8):
            weights = [np.polyval([*row[::-1], 0.0], theta) for row in tableau.dense]
            y = y0 + h * sum(w * k for w, k in zip(weights, stages))
            errors.append(np.abs(y - problem.solution(problem.t0 + theta * h)).max())
        return max(errors)

    sizes = np.array([0.02, 0.04, 0.08])
    slope = np.polyfit(np.log(sizes), np.log([error(h) for h in sizes]), 1)[0]
    assert slope > order + 0.75


@pytest.mark.parametrize(("name", "method"), [("bosh3", "RK23"), ("dopri5", "RK45")])
def test_as_many_evaluations_as_scipy(name, method):
    problem = PROBLEMS["linear"]
    _, stats = solve(problem, [0.0, 20.0], solver(name, rtol=1e-6, atol=1e-8))

    def func(t, y):
        return problem.func(t, tf.constant(y)).numpy()

    peer = solve_ivp(func, (0.0, 20.0), problem.y0.numpy(), method, rtol=1e-6, atol=1e-8)
    assert int(stats.num_evaluations) <= 1.15 * peer.nfev


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.few(1)
def test_evaluations_stay_inside_and_are_counted(name):
    seen = []

    def func(t, y):
        tf.py_function(lambda t: seen.append(float(t)), [t], [])
        return 30.0 * tf.cos(30.0 * t) * tf.ones_like(y)

    problem = PROBLEMS["linear"]._replace(func=func)
    for times in ([0.0, 0.3, 1.0], [1.0, 0.0]):
        seen.clear()
        _, stats = solve(problem, times, solver(name, rtol=1e-2, atol=1e-2))
        assert min(seen) >= 0.0
        assert max(seen) <= 1.0
        # The adjoint's search for variables is traced, not run.
        assert len(seen) == int(stats.num_evaluations)
        assert int(stats.num_rejected) >= 0


BAD = {
    "blows up": (lambda t, y: y * y, {}),
    "too few steps": (lambda t, y: tf.sin(50.0 * t) * y, {"max_steps": 5}),
    "NaN from the start": (lambda t, y: y * float("nan"), {}),
    "NaN on the way": (lambda t, y: tf.where(t > 0.5, float("nan"), 1.0) * y, {}),
    "infinite": (lambda t, y: y / 0.0, {}),
    "overflows": (lambda t, y: 3e38 * tf.ones_like(y), {}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", BAD)
def test_failure_is_an_error(mode, case):
    func, kwargs = BAD[case]
    run = MODES[mode](
        lambda: tfnode.odeint(
            func, tf.constant([1.0]), [0.0, 2.0], solver=solver("dopri5", **kwargs)
        )
    )
    if mode == "xla":
        assert np.isnan(run()[-1]).all()
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="time reached"):
            run()


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize("case", ["blows up", "too few steps", "NaN from the start"])
@pytest.mark.few(1)
def test_no_gradient_of_a_failed_solve_under_xla(case, gradient):
    """Not even of a loss that is linear, whose own derivative does not see the NaN."""
    func, kwargs = BAD[case]
    w = tf.Variable(1.0)

    @tf.function(jit_compile=True)
    def run():
        y0 = tf.constant([1.0])
        with tf.GradientTape() as tape:
            tape.watch(y0)
            ys = tfnode.odeint(
                lambda t, y: w * func(t, y),
                y0,
                [0.0, 0.5, 2.0],
                solver=solver("dopri5", **kwargs),
                gradient=gradient,
            )
            loss = tf.reduce_sum(ys)
        return tape.gradient(loss, [y0, w])

    for result in run():
        assert np.isnan(result).all()


@pytest.mark.parametrize("mode", MODES)
def test_same_everywhere(mode):
    problem = PROBLEMS["gaussian"]
    run = MODES[mode](
        lambda: tfnode.odeint(
            problem.func,
            problem.y0,
            [problem.t0, 0.7, problem.t1],
            solver=solver("tsit5", rtol=1e-8),
        )
    )
    expected = np.stack([problem.solution(t) for t in (problem.t0, 0.7, problem.t1)])
    np.testing.assert_allclose(run(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs",
    [{"rtol": 0.0}, {"rtol": "x"}, {"atol": -1.0}, {"first_step": 0.0}, {"max_steps": 0}],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match="Received"):
        solver("dopri5", **kwargs)
    assert solvers.deserialize(solvers.serialize(solver("dopri5", rtol=0.1))).rtol == 0.1
