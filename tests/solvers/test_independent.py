"""Samples with their own clocks, against SciPy and against solves of each sample alone."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MODES, ONE_MODE
from scipy.integrate import solve_ivp

import tfnode
from tfnode import solvers
from tfnode.layers import ConcatConv2D, ConcatDense, TimeBatchNormalization

pytestmark = pytest.mark.few(2)

TIGHT = solvers.Dopri8(rtol=1e-12, atol=1e-12, max_steps=20000)
MUS = np.array([0.1, 1.0, 5.0, 20.0])


# Each in TensorFlow or, for SciPy, in NumPy.


def van_der_pol(t, y, np=tf):
    """The stiffness of each sample is a component of its own state."""
    x, v, mu = y[:, 0], y[:, 1], y[:, 2]
    return np.stack([v, mu * (1.0 - x**2) * v - x, 0.0 * mu], 1)


def lotka_volterra(t, y, np=tf):
    a, b = y[:, 0], y[:, 1]
    return np.stack([a * (1.5 - b), b * (a - 3.0)], 1)


def pendulum(t, y, np=tf):
    angle, rate = y[:, 0], y[:, 1]
    return np.stack([rate, -np.sin(angle) - 0.2 * rate + 0.8 * np.cos(0.7 * t)], 1)


def kepler(t, y, np=tf):
    cube = (y[:, 0] ** 2 + y[:, 1] ** 2) ** 1.5
    return np.stack([y[:, 2], y[:, 3], -y[:, 0] / cube, -y[:, 1] / cube], 1)


def reference(func, y0, times):
    """SciPy's solution for one sample."""
    options = {"rtol": 3e-13, "atol": 1e-13, "method": "DOP853"}
    result = solve_ivp(
        lambda t, y: func(t, y[np.newaxis], np)[0], times[[0, -1]], y0, t_eval=times, **options
    )
    return result.y.T


def strictly(times):
    """The times of a row without those that are repeated at its end."""
    return times[: 1 + np.count_nonzero(np.diff(times))]


EXAMPLES = {
    "van_der_pol": (
        van_der_pol,
        [[2.0, 0.0, mu] for mu in MUS],
        [[0.0, 1.0, 2.0], [0.5, 0.0, -0.3], [0.0, 0.5, 0.5], [1.0, 1.2, 1.5]],
    ),
    "lotka_volterra": (
        lotka_volterra,
        [[1.0, 1.0], [3.0, 0.5], [2.0, 2.0]],
        [[0.0, 1.0, 2.5], [2.0, 1.0, 0.5], [7.0, 7.5, 7.5]],
    ),
    "pendulum": (pendulum, [[1.0, 0.0], [0.1, 2.0]], [[0.0, 2.0, 3.0], [5.0, 4.0, 2.0]]),
    "kepler": (
        kepler,
        [[0.5, 0.0, 0.0, 3.0**0.5], [1.0, 0.0, 0.0, 1.0]],
        [[0.0, 0.5, 2.0], [0.0, 3.0, 3.0]],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_scipy_sample_by_sample(name):
    func, y0, times = EXAMPLES[name]
    y0, times = np.array(y0), np.array(times)
    ys = tf.function(lambda: tfnode.odeint(func, tf.constant(y0), times, solver=TIGHT))()
    for sample, row in enumerate(times):
        expected = reference(func, y0[sample], strictly(row))
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ys[: len(expected), sample], expected, 1e-9, 1e-10 * scale)
        # The state stays where the row ends.
        for y in ys[len(expected) :, sample]:
            np.testing.assert_array_equal(y, ys[len(expected) - 1, sample])


TIMES = np.array([[0.0, 1.0, 2.0], [0.0, 0.5, 0.5], [1.0, 0.0, -1.0], [3.0, 3.0, 3.0]])
Y0 = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])


def decay(t, y):
    """`y(t) = y0 exp(cos t - cos t0)`."""
    return -y * tf.sin(t)[:, tf.newaxis]


def decayed(times=TIMES, y0=Y0):
    return y0 * np.exp(np.cos(times) - np.cos(times[:, :1])).T[..., np.newaxis]


@pytest.mark.parametrize("name", [*solvers.ADAPTIVE, *solvers.FIXED_STEP])
def test_every_method(name):
    """Steps that a sample alone would take, and the states that it would have."""
    cls = type(solvers.get(name))
    for solver in (cls(rtol=1e-4), cls(step_size=0.3)) if name in solvers.ADAPTIVE else (cls(7),):
        run = tf.function(
            lambda y, t, solver=solver: tfnode.odeint(
                decay, y, t, solver=solver, return_stats=True
            ),
            input_signature=[
                tf.TensorSpec([None, 2], tf.float64),
                tf.TensorSpec([None, None], tf.float64),
            ],
        )
        ys, stats = run(Y0, TIMES)
        for sample in range(3):
            row = strictly(TIMES[sample])
            alone, cost = run(Y0[sample : sample + 1], row[np.newaxis])
            np.testing.assert_allclose(ys[: len(row), sample], alone[:, 0], rtol=1e-12)
            for one, all_of_them in zip(cost, stats):
                assert int(one[0]) == int(all_of_them[sample])
        assert int(stats.num_steps[3]) == 0
        np.testing.assert_array_equal(ys[:, 3], np.broadcast_to(Y0[3], (3, 2)))


def test_shared_times_and_the_shared_step():
    """Of one sample, a solve with its own steps is the solve with shared ones."""
    times = [0.0, 0.4, 1.0, 2.0]
    for solver in ("bosh3", solvers.RK4(num_steps=3)):
        own, stats = tfnode.odeint(
            decay, tf.constant(Y0[:1]), times, solver=solver, independent=True, return_stats=True
        )
        shared, cost = tfnode.odeint(
            lambda t, y: -y * tf.sin(t),
            tf.constant(Y0[:1]),
            times,
            solver=solver,
            return_stats=True,
        )
        np.testing.assert_allclose(own, shared, rtol=1e-13)
        assert [int(x[0]) for x in stats] == [int(x) for x in cost]


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.parametrize("dtype", [tf.float16, tf.float32, tf.float64])
def test_nested_states_dtypes_and_modes(mode, dtype):
    def func(t, y):
        return {"a": decay(tf.cast(t, dtype), y["a"]), "b": [tf.cast(t, dtype), -y["b"][1]]}

    rows = np.array([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]])
    y0 = {
        "a": tf.constant(Y0[:2], dtype),
        "b": [tf.zeros([2], dtype), tf.ones([2, 1, 2], dtype)],
    }
    ys = MODES[mode](lambda: tfnode.odeint(func, y0, rows))()
    assert ys["a"].dtype == dtype
    tolerance = 5e-2 if dtype == tf.float16 else 3e-3
    np.testing.assert_allclose(ys["a"], decayed(rows, Y0[:2]), tolerance)
    np.testing.assert_allclose(ys["b"][0], (rows**2 - rows[:, :1] ** 2).T / 2, atol=tolerance)
    expected = np.exp(rows[:, :1] - rows).T[..., np.newaxis, np.newaxis]
    np.testing.assert_allclose(ys["b"][1], expected * np.ones((3, 2, 1, 2)), tolerance)


def test_empty_batch():
    ys, stats = tfnode.odeint(
        decay, tf.zeros([0, 2]), tf.zeros([0, 3]), solver="heun21", return_stats=True
    )
    assert ys.shape == (3, 0, 2) and stats.num_steps.shape == (0,)
    with tf.GradientTape() as tape:
        weight = tf.Variable(1.0)
        ys = tfnode.odeint(
            lambda t, y: weight * y, tf.zeros([0, 2]), tf.zeros([0, 3]), solver="heun21"
        )
    assert float(tape.gradient(ys, weight)) == 0.0


def test_work_in_proportion():
    """The rows that are evaluated are those that each sample alone would take."""
    rows = tf.Variable(0, dtype=tf.int64)

    def counted(t, y):
        rows.assign_add(tf.shape(y, out_type=tf.int64)[0])
        return van_der_pol(t, y)

    batch = np.array([[2.0, 0.0, mu] for mu in np.geomspace(0.1, 20.0, 16)])
    times = np.stack([np.zeros(16), np.linspace(0.1, 3.0, 16)], 1)
    run = tf.function(lambda: tfnode.odeint(counted, tf.constant(batch), times, return_stats=True))
    _, stats = run()
    alone = int(tf.reduce_sum(stats.num_evaluations))
    assert alone <= int(rows) <= 1.1 * alone
    assert 16 * int(tf.reduce_max(stats.num_evaluations)) > 2 * alone


@pytest.mark.parametrize("kind", ["tensor", "variable", "array", "argument"])
def test_tensors_of_the_batch_in_the_dynamics(kind):
    """Nothing is dropped that they belong to."""
    rates = np.array([[1.0], [2.0], [3.0], [0.5]])
    if kind == "tensor":
        rate = tf.constant(rates)
    elif kind == "variable":
        rate = tf.Variable(rates)
    elif kind == "array":
        rate = rates

    def run(y0, rate):
        solver = solvers.Dopri5(rtol=1e-8, atol=1e-10)
        return tfnode.odeint(lambda t, y: -rate * y, y0, TIMES, solver=solver)

    if kind == "argument":
        spec = tf.TensorSpec([None, None], tf.float64)
        ys = tf.function(run, input_signature=[spec, spec])(Y0, rates)
    else:
        ys = run(tf.constant(Y0), rate)
    expected = Y0 * np.exp(-(rates * (TIMES - TIMES[:, :1])).T)[..., np.newaxis]
    np.testing.assert_allclose(ys, expected, rtol=1e-6)


def explosive(t, y):
    """`y = 1 / (1 / y0 - t)`: beyond `1 / y0` there is no solution."""
    return y**2


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.parametrize(
    "solver",
    [solvers.Dopri5(on_failure="nan"), solvers.RK4(num_steps=50, on_failure="nan")],
    ids=["adaptive", "fixed"],
)
@pytest.mark.few(1)
def test_a_failed_sample_alone_is_nan(solver, mode):
    y0 = -np.linspace(0.1, 2.0, 64)[:, np.newaxis]
    y0[5], y0[40] = 5.0, np.nan
    run = MODES[mode](
        lambda: tfnode.odeint(
            explosive, tf.constant(y0), [0.0, 0.4, 1.0], solver=solver, independent=True
        )
    )
    ys = run().numpy()
    good = np.delete(np.arange(64), [5, 40])
    assert np.isnan(ys[1:, [5, 40]]).all()
    alone = tfnode.odeint(
        explosive, tf.constant(y0[good]), [0.0, 0.4, 1.0], solver=solver, independent=True
    )
    np.testing.assert_allclose(ys[:, good], alone, rtol=1e-12)


def message_of(function):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        function()
    return str(error.value)


def test_the_error_tells_the_samples_and_the_reason():
    y0 = tf.constant([[-1.0], [2.0], [0.1], [4.0]], tf.float64)
    text = message_of(
        tf.function(lambda: tfnode.odeint(explosive, y0, [0.0, 1.0], independent=True))
    )
    assert "Dopri5 failed: the step is below the resolution of time" in text
    assert "[failed samples =] [2]" in text and "[by index =] [1 3]" in text
    assert "[time reached =] [0.49" in text
    text = message_of(lambda: tfnode.odeint(explosive, y0, [0.0, 1.0]))
    assert "Dopri5 failed: the step is below the resolution of time" in text


@pytest.mark.parametrize("independent", [True, False])
def test_reasons(independent):
    def reason(func, y0, max_steps=30):
        solver = solvers.Bosh3(max_steps=max_steps)
        return message_of(
            tf.function(
                lambda: tfnode.odeint(
                    func,
                    tf.constant([[y0]], tf.float64),
                    [0.0, 9.0],
                    solver=solver,
                    independent=independent,
                )
            )
        )

    assert "failed: the budget of steps is spent" in reason(lambda t, y: y, 1.0, max_steps=3)
    assert "failed: the state or its derivative is not finite beyond" in reason(
        lambda t, y: -tf.sqrt(y) - 1.0, 1.0, max_steps=1000
    )
    assert "failed: `y0` or its derivative is not finite" in reason(lambda t, y: tf.sqrt(y), -1.0)
    assert "failed: `y0` or its derivative is not finite" in reason(lambda t, y: y, np.nan)


def test_the_shared_step_may_be_nan_too():
    solver = solvers.Dopri5(on_failure="nan")
    ys = tfnode.odeint(explosive, tf.constant([[-1.0], [2.0]]), [0.0, 1.0, 2.0], solver=solver)
    assert np.isnan(ys).all()
    assert solver.get_config()["on_failure"] == "nan"
    assert "on_failure" not in solvers.Dopri5().get_config()
    assert "on_failure" not in solvers.RK4().get_config()
    assert type(solver).from_config(solver.get_config()).on_failure == "nan"
    with pytest.raises(ValueError, match=r"raise.*Received"):
        solvers.RK4(on_failure="ignore")


@pytest.mark.parametrize(
    "times",
    [
        [[0.0, 1.0], [0.0, np.nan]],
        [[0.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]],
        [[0.0, 1.0, 0.5], [0.0, 1.0, 2.0]],
        [[0.0], [1.0]],
        [[0.0, 1.0]],
    ],
)
@pytest.mark.few(1)
def test_times_that_do_not_fit(times):
    y0 = tf.constant(Y0[:2])
    with pytest.raises(ValueError, match="Received"):
        tfnode.odeint(decay, y0, times)
    if len(times[0]) > 1:
        run = tf.function(
            lambda t: tfnode.odeint(decay, y0, t),
            input_signature=[tf.TensorSpec([None, None], tf.float64)],
        )
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(np.array(times))


def test_refusals():
    y0, times = tf.constant(Y0), TIMES
    with pytest.raises(ValueError, match=r"Runge-Kutta.*Received"):
        tfnode.odeint(decay, y0, times, solver="bdf")
    with pytest.raises(ValueError, match=r"1-D.*Received"):
        tfnode.odeint(decay, y0, times, independent=False)
    with pytest.raises(ValueError, match=r"first axis.*Received"):
        tfnode.odeint(lambda t, y: -y, tf.constant(1.0), [0.0, 1.0], independent=True)
    layer = TimeBatchNormalization()
    layer.build((), (None, 2))
    with pytest.raises(ValueError, match="training=False"):
        tfnode.odeint(lambda t, y: layer(t, y, training=True), tf.zeros([4, 2]), times)


def test_layers_take_the_time_of_every_sample():
    t = tf.constant([0.1, 0.6, 0.9])
    for layer, y in (
        (ConcatDense(2), tf.random.stateless_normal([3, 4], [1, 2])),
        (ConcatDense(2), tf.random.stateless_normal([3, 5, 4], [1, 2])),
        (ConcatConv2D(2), tf.random.stateless_normal([3, 4, 4, 2], [1, 2])),
        (TimeBatchNormalization(), tf.random.stateless_normal([3, 4, 2], [1, 2])),
    ):
        layer(t[0], y)
        if isinstance(layer, TimeBatchNormalization):
            for time in (0.0, 0.7, 1.0):
                layer(tf.constant(time), y + time, training=True)
        expected = tf.concat([layer(t[i], y[i : i + 1]) for i in range(3)], 0)
        np.testing.assert_allclose(layer(t, y), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("examples", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_any_batch(examples):
    """Whatever the starts, directions and paddings, every sample has its closed form."""

    @settings(max_examples=examples, deadline=None)
    @given(
        rows=st.lists(
            st.tuples(
                st.floats(-2.0, 2.0),
                st.lists(st.floats(0.05, 0.7), min_size=0, max_size=3),
                st.sampled_from([1.0, -1.0]),
            ),
            min_size=1,
            max_size=4,
        ),
        nested=st.booleans(),
    )
    def check(rows, nested):
        times = np.array(
            [
                np.cumsum([start, *(sign * s for s in (*steps, *[0.0] * (3 - len(steps))))])
                for start, steps, sign in rows
            ]
        )
        y0 = np.random.default_rng(len(rows)).normal(size=(len(rows), 2))
        run = solvers.Dopri5(rtol=1e-9, atol=1e-11)
        if nested:
            func = lambda t, y: {"x": (decay(t, y["x"][0]),)}  # noqa: E731
            ys = tfnode.odeint(func, {"x": (tf.constant(y0),)}, times, solver=run)["x"][0]
        else:
            ys = tfnode.odeint(decay, tf.constant(y0), times, solver=run)
        np.testing.assert_allclose(ys, decayed(times, y0), rtol=1e-7, atol=1e-9)

    check()


def falling(t, y):
    return tf.stack([y[:, 1], -9.81 * tf.ones_like(t)], 1)


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["function", "xla"])
def test_every_sample_has_its_event(mode):
    """Balls that fall from three heights, the last of which does not land in time."""
    balls = tf.constant([[1.0, 0.0], [2.0, 0.0], [30.0, 0.0]], tf.float64)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(balls)
            event = tfnode.odeint_event(
                falling, balls, 0.0, lambda t, y: y[:, 0], independent=True, t1=1.0, direction=-1
            )
        return event, tape.gradient(event.times, balls)

    event, gradient = MODES[mode](run)()
    times = np.sqrt(2.0 * np.array([1.0, 2.0]) / 9.81)
    np.testing.assert_allclose(event.times, [*times, 1.0], rtol=1e-9)
    np.testing.assert_allclose(event.states[1, :, 1], -9.81 * event.times, rtol=1e-9)
    np.testing.assert_allclose(event.states[1, :, 0], [0.0, 0.0, 30.0 - 9.81 / 2.0], atol=1e-9)
    assert event.happened.numpy().tolist() == [True, True, False]
    assert event.which.numpy().tolist() == [0, 0, -1]
    np.testing.assert_allclose(gradient[:, 0], [*(1.0 / (9.81 * times)), 0.0], rtol=1e-9)


@pytest.mark.parametrize(
    ("direction", "quarters", "which"),
    [(0, [1, 2, 3], [1, 0, 1]), (-1, [1, 2, 5], [1, 0, 1]), (1, [3, 3, 3], [1, 1, 1])],
)
def test_which_event_and_which_direction(direction, quarters, which):
    """`y = (sin, cos)` of `t + phase`, whose zeros are at multiples of a quarter turn."""

    def turn(t, y):
        return tf.stack([y[:, 1], -y[:, 0]], 1)

    phases = np.array([0.3, 2.0, 4.0])
    y0 = tf.constant(np.stack([np.sin(phases), np.cos(phases)], 1))
    solver = solvers.Dopri5(rtol=1e-9, atol=1e-10)
    event = tf.function(
        lambda: tfnode.odeint_event(
            turn,
            y0,
            phases,
            lambda t, y: y,
            independent=True,
            solver=solver,
            direction=direction,
        )
    )()
    np.testing.assert_allclose(event.times, np.multiply(quarters, np.pi / 2), rtol=1e-8)
    assert event.which.numpy().tolist() == which


def test_no_event_without_a_last_time():
    def run(on_failure):
        solver = solvers.Bosh3(max_steps=12, on_failure=on_failure)
        return tfnode.odeint_event(
            falling,
            tf.constant([[1.0, 0.0], [-1.0, -1.0]]),
            0.0,
            lambda t, y: y[:, 0],
            independent=True,
            solver=solver,
        )

    assert "No event in some of the samples" in message_of(lambda: run("raise"))
    event = run("nan")
    assert np.isnan(event.times).tolist() == [False, True]
    assert event.happened.numpy().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"independent=True.*Received"):
        tfnode.odeint_event(falling, tf.zeros([1, 2]), 0.0, lambda t, y: y, t1=1.0)
    with pytest.raises(ValueError, match=r"direction.*Received"):
        tfnode.odeint_event(falling, tf.zeros([1, 2]), 0.0, lambda t, y: y, direction=2)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ([[0.0, 1.0, 2.0], [0.0, 1.0]], TypeError, "rows of one length.*repeats its last"),
        (tf.ragged.constant([[0.0, 1.0], [0.0]]), TypeError, "rows of one length"),
    ],
)
def test_rows_of_different_lengths(times, error, message):
    with pytest.raises(error, match=message):
        tfnode.odeint(decay, tf.ones([2, 1]), times)


def test_a_derivative_of_another_shape_at_own_times():
    """The trace for batches of any size cannot tell the two axes apart."""
    with pytest.raises(
        ValueError, match=r"derivative of shape \(2, 4\) for a state of shape \(4, 2"
    ):
        tfnode.odeint(lambda t, y: tf.transpose(y), tf.constant(Y0), TIMES)


@pytest.mark.parametrize("option", [{"args": (1.0,)}, {"context": 1.0}, {"method": "rk4"}])
def test_arguments_of_other_libraries(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"func|solver.*Received: {name}="):
        tfnode.odeint(decay, tf.constant(Y0), TIMES, **option)


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_of_an_empty_batch(gradient, jit_compile):
    weight = tf.Variable(1.0)

    @tf.function(jit_compile=jit_compile)
    def run(y0, times):
        with tf.GradientTape() as tape:
            tape.watch([y0, times])
            ys = tfnode.odeint(lambda t, y: -weight * y, y0, times, gradient=gradient)
        return tape.gradient(ys, [y0, times, weight])

    by_y0, by_times, by_weight = run(tf.zeros([0, 2]), tf.zeros([0, 3]))
    assert (by_y0.shape, by_times.shape, float(by_weight)) == ((0, 2), (0, 3), 0.0)


def test_eager_gradients_where_no_sample_takes_a_step():
    weight, y0 = tf.Variable(1.0), tf.ones([2, 1])
    for start, times in ((y0[:0], tf.zeros([0, 3])), (y0, tf.ones([2, 3]))):
        with tf.GradientTape() as tape:
            tape.watch([start, times])
            ys = tfnode.odeint(lambda t, y: -weight * y, start, times, gradient="backprop")
        by_start, by_times, by_weight = tape.gradient(ys, [start, times, weight])
        np.testing.assert_array_equal(by_start, 3.0 * np.ones(start.shape))
        np.testing.assert_array_equal(by_times, np.zeros(times.shape))
        assert float(by_weight) == 0.0
