"""Situations in which a gradient could be wrong without a word: see docs/gradients.md."""

import datetime
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MODES, central_difference
from scipy.integrate import solve_ivp

import tfnode
from tfnode import gradients, solvers
from tfnode.problem import Problem

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "checkpoint", "backprop"]
f64 = tf.float64


def kinetics(p, y, xp):
    """An oral dose: the gut, the blood."""
    return [-p[0] * y[0], p[0] * y[0] - p[1] * y[1]]


def tanks(p, y, xp):
    """Five tanks in a row."""
    flows = [p[0] * y[0], *(p[1] * y[i] for i in range(1, 5))]
    return [-flows[0], *(a - b for a, b in itertools.pairwise(flows))]


def chemostat(p, y, xp):
    growth = p[0] * y[1] / (0.5 + y[1])
    return [(growth - p[1]) * y[0], p[1] * (2.0 - y[1]) - growth * y[0]]


def relaxation(p, y, xp):
    return [-p[0] * (y[0] - p[1]), -(y[1] - y[0])]


TOGETHER = {
    "kinetics": (kinetics, [2.0, 0.2], [100.0, 0.0], [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0]),
    "tanks": (tanks, [1.5, 0.8], [10.0, 0.0, 0.0, 0.0, 0.0], [0.0, 5.0, 20.0]),
    "chemostat": (chemostat, [1.2, 0.4], [0.1, 2.0], [0.0, 10.0, 40.0]),
    "relaxation": (relaxation, [30.0, 1.5], [1.0, 0.0], [0.0, 1.0, 3.0]),
}


def by_scipy(field, p, y0, t):
    """The gradient of the sum of the second component over the times, by finite differences."""

    def value(p):
        ys = solve_ivp(
            lambda _, y: field(p, y, np), (t[0], t[-1]), y0, "LSODA", t, rtol=1e-11, atol=1e-11
        ).y
        return ys[1].sum()

    return central_difference(value, np.array(p))


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.few(1)
def test_the_default_where_trajectories_run_together(name):
    field, p, y0, t = TOGETHER[name]
    parameters = [tf.Variable(x, dtype=f64) for x in p]
    with tf.GradientTape() as tape:
        states = tfnode.odeint(
            lambda t, y: tf.stack(field(parameters, y, tf)), tf.constant(y0, f64), t
        )
        value = tf.reduce_sum(states[:, 1])
    got = [float(g) for g in tape.gradient(value, parameters)]
    right = by_scipy(field, p, y0, t)
    # Of the default tolerance, 1e-3 a step.
    np.testing.assert_allclose(got, right, atol=2e-2 * np.abs(right).max())


def test_what_the_default_is():
    assert isinstance(gradients.get(None, solvers.Dopri5()), gradients.Checkpoint)
    assert isinstance(gradients.get(None, solvers.RK4()), gradients.Checkpoint)
    assert isinstance(gradients.get(None, solvers.BDF()), gradients.Adjoint)
    block = tfnode.ODEBlock(keras.layers.Dense(2), "dopri5")
    assert isinstance(block.gradient, gradients.Checkpoint)


@pytest.mark.parametrize("mode", ["function", "xla"])
@pytest.mark.few(1)
def test_an_adjoint_that_is_lost(mode):
    field, p, y0, t = TOGETHER["kinetics"]
    parameters = [tf.Variable(x, dtype=f64) for x in p]

    def run(gradient):
        @MODES[mode]
        def compute():
            with tf.GradientTape() as tape:
                states = tfnode.odeint(
                    lambda t, y: tf.stack(field(parameters, y, tf)),
                    tf.constant(y0, f64),
                    t,
                    gradient=gradient,
                )
                value = tf.reduce_sum(states[:, 1])
            return tape.gradient(value, parameters)

        return compute()

    if mode == "xla":
        assert np.isnan(run("adjoint")).all()
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"lost.*checkpoint.*time ="):
            run("adjoint")
    wrong = run(gradients.Adjoint(max_reconstruction_error=None))
    assert np.isfinite(wrong).all()
    right = run("checkpoint")
    assert not np.allclose(wrong, right, rtol=0.1)
    tight = gradients.Adjoint(solvers.Dopri5(rtol=1e-3, atol=1e-6), max_reconstruction_error=1e30)
    assert np.isfinite(run(tight)).all()


@pytest.mark.parametrize("limit", [0.0, -1.0, "x", True])
def test_bad_limits_of_the_adjoint(limit):
    with pytest.raises(ValueError, match="max_reconstruction_error"):
        gradients.Adjoint(max_reconstruction_error=limit)


def test_a_coarse_adjoint_warns():
    rate = tf.Variable(2.0)

    @tf.function
    def run(gradient):
        with tf.GradientTape() as tape:
            y = tfnode.odeint(
                lambda t, y: -rate * y, tf.ones([1]), [0.0, 1.0], solver="euler", gradient=gradient
            )[-1]
        return tape.gradient(y, rate)

    with pytest.warns(RuntimeWarning, match="misses the states.*checkpoint"):
        run("adjoint")


def test_an_adjoint_that_is_fine_is_left_alone():
    rate = tf.Variable(0.7, dtype=f64)
    with tf.GradientTape() as tape:
        y = tfnode.odeint(
            lambda t, y: tf.stack([y[1], -rate * y[0]]),
            tf.constant([1.0, 0.0], f64),
            np.linspace(0.0, 10.0, 5),
            gradient="adjoint",
        )
        value = y[-1, 0]
    w = np.sqrt(0.7)
    np.testing.assert_allclose(tape.gradient(value, rate), -5.0 * np.sin(10.0 * w) / w, rtol=5e-2)


# Randomness


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("solver", [solvers.RK4(num_steps=20), "dopri5"], ids=["fixed", "adaptive"])
def test_one_realisation_a_solve(solver, gradient, mode):
    """With one mask m a solve, y(1) = exp(-k m) and dy/dk = -m y."""
    k, drop = tf.Variable(0.3), keras.layers.Dropout(0.5, seed=7)
    drop.build((4, 16))

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            y = tfnode.odeint(
                lambda t, y: -k * drop(tf.ones_like(y), training=True) * y,
                tf.ones([4, 16]),
                [0.0, 1.0],
                solver=solver,
                gradient=gradient,
            )[-1]
        return y, tape.gradient(y, k)

    y, slope = (x.numpy() for x in run())
    mask = -np.log(y) / 0.3
    assert set(np.round(mask.ravel(), 2)) == {0.0, 2.0}
    np.testing.assert_allclose(slope, -(mask * y).sum(), rtol=1e-2)
    again = run()[0].numpy()
    assert np.any(np.round(again, 3) != np.round(y, 3))


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_random_numbers_of_tensorflow_are_refused(gradient):
    with pytest.raises(ValueError, match=r"SeedGenerator.*RandomStandardNormal"):
        tfnode.odeint(
            lambda t, y: y + tf.random.normal([1]), tf.ones([1]), [0.0, 1.0], gradient=gradient
        )


# First calls, closures


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_layers_that_are_built_in_the_first_call(gradient, mode):
    net = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])

    def value():
        y = tfnode.odeint(
            lambda t, y: net(y), tf.ones([4, 2]), [0.0, 1.0], solver="rk4", gradient=gradient
        )
        return tf.reduce_sum(y[-1])

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            loss = value()
        return tape.gradient(loss, net.trainable_variables)

    first = run()
    assert len(first) == 4
    for a, b in zip(first, run()):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_tables_cost_a_gradient_only_if_watched(gradient):
    table = tf.constant(np.linspace(0.0, 1.0, 200), f64)

    def field(t, y):
        return -y * tf.gather(table, tf.cast(t * 100.0, tf.int32))

    def problem():
        return Problem(field, tf.ones([1], f64), lambda dtype: tf.constant([0.0, 1.0], dtype))

    assert problem().vector_field.sources == []
    with tf.GradientTape() as tape:
        tape.watch(table)
        assert len(problem().vector_field.sources) == 1
        solver = solvers.Euler(num_steps=10)
        y = tfnode.odeint(field, tf.ones([1], f64), [0.0, 1.0], solver=solver, gradient=gradient)
        last = y[-1]
    by_table = np.asarray(tf.convert_to_tensor(tape.gradient(last, table)))
    used = np.flatnonzero(by_table)
    assert len(used) == 10
    end, h = y[-1, 0].numpy(), 0.1
    exact = -h * end / (1.0 - h * table.numpy()[used])
    # The adjoint is that of the differential equation, which Euler's ten steps miss.
    np.testing.assert_allclose(by_table[used], exact, rtol=0.1 if gradient == "adjoint" else 1e-9)


# Rejected steps, clocks, dates, stiff problems


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_rejected_steps_outside_of_the_domain(gradient, mode):
    """A tank that runs empty at t = 2: h = (1 - c t / 2)^2."""
    c = tf.Variable(1.0, dtype=f64)

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            h, stats = tfnode.odeint(
                lambda t, h: -c * tf.sqrt(h),
                tf.ones([1], f64),
                [0.0, 1.9],
                solver=solvers.Dopri5(rtol=1e-6, atol=1e-9, first_step=1.5),
                gradient=gradient,
                return_stats=True,
            )
            last = h[-1]
        return last, stats, tape.gradient(last, c)

    last, stats, slope = run()
    assert stats.num_rejected > 0
    np.testing.assert_allclose(last, [0.0025], rtol=1e-3)
    np.testing.assert_allclose(slope, -1.9 * 0.05, rtol=1e-2)


@pytest.mark.parametrize("t0", [0.0, 3600.0, 36000.0])
def test_time_far_from_zero_in_float32(t0):
    times = tf.constant([t0, t0 + 1.0])
    y0 = tf.zeros([1])
    with tf.GradientTape() as tape:
        tape.watch(times)
        y = tfnode.odeint(lambda t, y: 1.0 - y, y0, times)[-1, 0]
    np.testing.assert_allclose(y, 1.0 - np.exp(-1.0), rtol=1e-4)
    slope = np.exp(-1.0)
    np.testing.assert_allclose(tape.gradient(y, times), [-slope, slope], rtol=1e-3)


def test_the_dynamics_get_the_time_of_the_caller():
    y = tfnode.odeint(lambda t, y: tf.cos(t) * y, tf.ones([1], f64), [5.0, 6.0], solver="dopri8")
    np.testing.assert_allclose(y[-1], [np.exp(np.sin(6.0) - np.sin(5.0))], rtol=1e-5)


@pytest.mark.parametrize(
    "t",
    [
        np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]"),
        np.array([0, 1], "timedelta64[s]"),
        [datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 2)],
    ],
    ids=["datetime64", "timedelta64", "datetime"],
)
def test_dates_are_refused(t):
    with pytest.raises(TypeError, match=r"dates.*timedelta64"):
        tfnode.odeint(lambda t, y: -y, tf.ones([1]), t)


def test_a_stiff_gradient_says_which_solve_failed():
    k = tf.Variable(0.04, dtype=f64)

    def robertson(t, y):
        a, b = k * y[0], 1e4 * y[1] * y[2]
        c = 3e7 * y[1] ** 2
        return tf.stack([-a + b, a - b - c, c])

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            y = tfnode.odeint(
                robertson, tf.constant([1.0, 0.0, 0.0], f64), [0.0, 10.0], solver="bdf"
            )
            last = y[-1, 2]
        return tape.gradient(last, k)

    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"backward solve.*(checkpoint|forward solve succeeded)",
    ):
        run()


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["eager", "function"])
def test_second_derivatives_of_events(mode):
    """A ball falls from h for sqrt(2 h / g)."""
    h = tf.constant(10.0, f64)

    @MODES[mode]
    def run():
        with tf.GradientTape() as outer:
            outer.watch(h)
            with tf.GradientTape() as inner:
                inner.watch(h)
                t, _ = tfnode.odeint_event(
                    lambda s, y: tf.stack([y[1], -9.81 + 0.0 * y[1]]),
                    tf.stack([h, 0.0 * h]),
                    0.0,
                    lambda s, y: y[0],
                    solver="bosh3",
                    gradient="backprop",
                )
            first = inner.gradient(t, h)
        return first, outer.gradient(first, h)

    first, second = run()
    time = np.sqrt(2.0 * 10.0 / 9.81)
    np.testing.assert_allclose(first, time / 20.0, rtol=1e-6)
    np.testing.assert_allclose(second, -time / 400.0, rtol=1e-5)


# Random dynamics at the defaults


@pytest.mark.parametrize("examples", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_random_dynamics_at_the_default(examples):
    """Within 100 tolerances of SciPy's finite differences, or an error."""

    @settings(max_examples=examples, deadline=None)
    @given(
        kind=st.sampled_from(["relaxing", "oscillating", "growing", "branch", "gather"]),
        p=st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 2.0)),
        span=st.floats(0.3, 6.0),
        solver=st.sampled_from(["heun21", "bosh3", "dopri5", "tsit5"]),
        tolerance=st.sampled_from([1e-4, 1e-6]),
    )
    def check(**drawn):
        check_random_dynamics(**drawn)

    check()


def check_random_dynamics(kind, p, span, solver, tolerance):

    def field(p, y, xp):
        a, b = p
        if kind == "relaxing":
            return [a * (b - y[0]), y[0] - b * y[1]]
        if kind == "oscillating":
            return [y[1], -a * y[0] - 0.1 * b * y[1]]
        if kind == "growing":
            return [0.3 * a * y[0] * (1.0 - 0.1 * y[0]), b * (y[0] - y[1])]
        if kind == "branch":
            return [-a * y[0], xp.where(y[0] > 0.0, b * y[0], -b * y[0]) - y[1]]
        return [-a * y[1], b * y[0]]

    parameters = [tf.Variable(x, dtype=f64) for x in p]

    def func(t, y):
        y = tf.gather(y, [0, 1]) if kind == "gather" else y
        return tf.stack(field(parameters, y, tf))

    scale = {"heun21": solvers.Heun21, "bosh3": solvers.Bosh3, "dopri5": solvers.Dopri5}
    method = scale.get(solver, solvers.Tsit5)(rtol=tolerance, atol=tolerance)
    t = [0.0, 0.4 * span, span]
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(
            tfnode.odeint(func, tf.constant([1.0, 0.5], f64), t, solver=method)[:, 1]
        )
    got = np.array([float(g) for g in tape.gradient(value, parameters)])
    right = by_scipy(field, p, [1.0, 0.5], t)
    assert np.abs(got - right).max() <= 100 * tolerance * max(1.0, np.abs(right).max())
