"""`step_times`: steps end where the dynamics jump, and each side has its own dynamics."""

import numpy as np
import pytest
import tensorflow as tf

import tfnode

pytestmark = pytest.mark.few(2)

SOLVERS = {
    "dopri5": {"rtol": 1e-10, "atol": 1e-12},
    "heun21": {"rtol": 1e-5, "atol": 1e-7, "max_steps": 100_000},
    "rk4": {"num_steps": 20},
}
TOLERANCE = {"dopri5": 1e-9, "heun21": 1e-5, "rk4": 1e-6}


def _switched(solver, gradient, xla=False):
    """A trace of a growth whose rate changes at a time, and of the gradients of its end."""

    @tf.function(jit_compile=xla)
    def run(switch, rates, times):
        with tf.GradientTape() as tape:
            tape.watch([switch, rates, times])

            def dynamics(t, y):
                return tf.where(t < switch, rates[0], rates[1]) * y

            options = SOLVERS[solver]
            y0 = tf.ones([1], times.dtype)
            ys, stats = tfnode.odeint(
                dynamics,
                y0,
                times,
                solver=solver,
                gradient=gradient,
                step_times=switch[tf.newaxis],
                return_stats=True,
                **options,
            )
            end = ys[-1, 0]
        return ys[:, 0], stats, tape.gradient(end, [switch, rates, times])

    return run


@pytest.mark.parametrize(
    ("solver", "gradient", "xla"),
    [
        ("dopri5", "checkpoint", False),
        ("dopri5", "adjoint", False),
        ("dopri5", "backprop", False),
        pytest.param("dopri5", "checkpoint", True, marks=pytest.mark.slow),
        ("heun21", "checkpoint", False),
        ("rk4", "checkpoint", False),
        ("rk4", "backprop", True),
        ("rk4", "adjoint", False),
    ],
)
@pytest.mark.few(1)
def test_a_jump_and_its_gradients(solver, gradient, xla):
    run, (a, b) = _switched(solver, gradient, xla), (0.7, -1.3)
    rates = tf.constant([a, b], tf.float64)
    for start, direction in ((0.0, 1.0), (3600.0, 1.0), (5.0, -1.0)):
        elapsed = np.array([0.0, 0.4, 1.5, 2.0])
        times = tf.constant(start + direction * elapsed)
        switch = tf.constant(start + direction, tf.float64)
        here, there = (a, b) if direction > 0 else (b, a)
        ys, _, (by_switch, by_rates, by_times) = run(switch, rates, times)
        first = np.minimum(elapsed, 1.0)
        expected = np.exp(direction * (here * first + there * (elapsed - first)))
        scale = TOLERANCE[solver]
        np.testing.assert_allclose(ys, expected, rtol=scale)
        end = expected[-1]
        np.testing.assert_allclose(by_switch, (here - there) * end, rtol=10 * scale)
        np.testing.assert_allclose(by_rates, [direction * end] * 2, rtol=10 * scale)
        np.testing.assert_allclose(
            by_times, [-here * end, 0.0, 0.0, there * end], rtol=10 * scale, atol=10 * scale
        )


def test_both_sides_in_float32_far_from_zero():
    # Time has a resolution of 0.00024 there, and no error is left but that of rounding.
    for less in (tf.less, tf.less_equal):
        ys = tfnode.odeint(
            lambda t, y, less=less: tf.where(less(t, 3601.0), 1.0, -1.0) * tf.ones_like(y),
            tf.zeros([1]),
            [3600.0, 3602.0],
            step_times=[3601.0],
        )
        np.testing.assert_allclose(ys[-1], [0.0], atol=1e-6)


def test_a_pulse_is_not_stepped_over():
    def pulse(t, y):
        return 1000.0 * tf.cast((t >= 50.0) & (t < 50.001), y.dtype) * tf.ones_like(y)

    y0 = tf.zeros([1], tf.float64)
    with_steps, stats = tfnode.odeint(
        pulse, y0, [0.0, 100.0], step_times=[50.0, 50.001], return_stats=True
    )
    np.testing.assert_allclose(with_steps[-1], [1.0], rtol=1e-9)
    assert stats.num_steps < 30
    np.testing.assert_allclose(tfnode.odeint(pulse, y0, [0.0, 100.0])[-1], [0.0])


def test_the_step_ends_there_and_goes_on_from_its_other_side():
    seen = []

    def dynamics(t, y):
        tf.py_function(lambda t: seen.append(float(t)), [t], [])
        return -y

    tfnode.odeint(
        dynamics,
        tf.ones([1], tf.float64),
        [0.0, 2.0],
        gradient="backprop",
        solver=tfnode.solvers.Dopri5(rtol=1e-3, atol=1e-3),
        step_times=[0.5, 5.0, -1.0, 0.5],
    )
    before, after = np.nextafter(0.5, 0.0), np.nextafter(0.5, 1.0)
    assert before in seen and after in seen and 0.5 not in seen
    assert all(0.0 <= t <= 2.0 for t in seen)


def test_evaluations_are_counted():
    calls = tf.Variable(0)

    def dynamics(t, y):
        calls.assign_add(1)
        return -y * t

    for solver in ("dopri5", "heun21", "rk4"):
        calls.assign(0)
        problem = tfnode.problem.Problem(
            dynamics, tf.ones([1]), lambda d: tf.constant([0.0, 1.0, 2.0], d), step_times=[0.5, 1.0]
        )
        calls.assign(0)
        result = tfnode.solvers.get(solver).integrate(
            problem.field, problem.y0, problem.times, stops=problem.stops
        )
        assert result.stats.num_evaluations == calls


@pytest.mark.parametrize(
    ("solver", "gradient"),
    [
        ("dopri5", "checkpoint"),
        ("dopri5", "adjoint"),
        ("heun21", "checkpoint"),
        ("rk4", "backprop"),
    ],
)
@pytest.mark.few(1)
def test_independent_samples_have_their_own(solver, gradient):
    # Each sample carries its switch: its derivative is 1 before and -2 after.
    times = np.array([[0.0, 1.0, 2.0], [4.0, 3.0, 3.0], [1.0, 1.5, 3.0]])
    switch = np.array([0.7, 3.5, 1.4])
    step_times = np.stack([switch, [np.nan, 9.0, 1.4]], 1)

    def dynamics(t, y):
        slope = 1.0 - 3.0 * tf.cast(t >= y[:, 1], y.dtype)
        return tf.stack([slope, tf.zeros_like(t)], 1)

    @tf.function
    def run(step_times, times):
        with tf.GradientTape() as tape:
            tape.watch([step_times, times])
            ys = tfnode.odeint(
                dynamics,
                tf.stack([tf.zeros([3], tf.float64), switch], 1),
                times,
                solver=solver,
                gradient=gradient,
                step_times=step_times,
                **SOLVERS[solver],
            )
            end = tf.reduce_sum(ys[-1, :, 0])
        return ys[:, :, 0], tape.gradient(end, [step_times, times])

    ys, (by_step, by_times) = run(tf.constant(step_times), tf.constant(times))
    whole = np.abs(times - times[:, :1])
    first = np.array([[0.7], [0.5], [0.4]])
    slopes = np.array([[1.0, -2.0], [2.0, -1.0], [1.0, -2.0]])
    spent = np.minimum(whole, first)
    expected = slopes[:, :1] * spent + slopes[:, 1:] * (whole - spent)
    np.testing.assert_allclose(ys, expected.T, atol=1e-9)
    # A switch that is later by one changes the end by 3.
    np.testing.assert_allclose(tf.reduce_sum(by_step, 1), [3.0, -3.0, 3.0], atol=1e-9)
    np.testing.assert_allclose(by_times[:, 0], [-1.0, 2.0, -1.0], atol=1e-9)


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.parametrize("times", [[0.0, 0.4, 2.0], [[0.0, 0.4, 2.0], [2.0, 1.5, 1.5]]])
def test_the_last_state_alone(times, gradient):
    """As a layer asks for it: the last of all states, with its gradients."""
    solver = tfnode.solvers.Dopri5(**SOLVERS["dopri5"])
    method, y0 = tfnode.gradients.get(gradient), tf.ones([2, 1], tf.float64)

    @tf.function
    def run(step_times, times, final_only):
        def dynamics(t, y):
            slope = tf.where(t < 1.0, 0.7, -1.3)
            return tf.cast(tf.reshape(slope, [-1, 1]), y.dtype) * y

        with tf.GradientTape() as tape:
            tape.watch([step_times, times])
            options = {"final_only": final_only, "step_times": step_times}
            found, *_ = tfnode.integrate.solve(dynamics, y0, times, solver, method, **options)
            last = found if final_only else found[-1]
        return last, *tape.gradient(last, [step_times, times])

    arguments = tf.constant([1.0], tf.float64), tf.constant(times, tf.float64)
    for found, expected in zip(run(*arguments, True), run(*arguments, False)):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_knots_of_a_control():
    knots = np.linspace(0.0, 3.0, 7)
    values = np.array([0.0, 1.0, -1.0, 2.0, 0.0, 0.5, 1.0])
    control = tfnode.interpolation.Linear(knots, values)
    y0 = tf.zeros([1], tf.float64)
    ys = tfnode.odeint(
        lambda t, y: control(t) * tf.ones_like(y),
        y0,
        [0.0, 3.0],
        solver="rk4",
        num_steps=1,
        step_times=control.knots,
    )
    np.testing.assert_allclose(ys[-1], [np.trapezoid(values, knots)], rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_times": [[0.5]]}, "must be 1-D"),
        ({"step_times": ["noon"]}, "`step_times` must be real numbers"),
        ({"step_times": [0.5], "solver": "bdf"}, "need a Runge-Kutta solver"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tfnode.odeint(lambda t, y: -y, tf.ones([1]), [0.0, 1.0], **arguments)
