"""`tfnode.interpolation`: against SciPy, finite differences, and itself in other modes."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicHermiteSpline, PPoly

import tfnode
from tfnode.interpolation import Hermite, Linear
from tfnode.problem.field.vector_field import VectorField

pytestmark = pytest.mark.few(2)

PATHS = [Linear, Hermite]
paths = pytest.mark.parametrize("path", PATHS)
RANDOM = np.random.default_rng(0)
TIMES = np.cumsum(RANDOM.uniform(0.2, 1.5, 9)) - 2.0
VALUES = RANDOM.normal(size=(9, 3))
# Between the times, and all of them.
AT = np.sort(np.concatenate([np.linspace(TIMES[0], TIMES[-1], 40)[1:-1], TIMES]))


def reference(path, times, values):
    """The path through 1-D data without gaps, by SciPy."""
    slopes = np.diff(values) / np.diff(times)
    if path is Hermite:
        return CubicHermiteSpline(times, values, [slopes[0], *slopes])
    return PPoly([slopes, values[:-1]], times)


def gappy_reference(path, times, values, at, order=0):
    """The same at many times, of data with gaps, held outside of what was observed."""
    there = ~np.isnan(values)
    times, values = times[there], values[there]
    if len(times) < 2:
        constant = values[0] if len(times) else 0.0
        return np.full(len(at), constant if order == 0 else 0.0)
    found = reference(path, times, values)(np.clip(at, times[0], times[-1]), order)
    return np.where((at >= times[0]) & (at < times[-1]) | (order == 0), found, 0.0)


def gappy(shape, seed=1):
    random = np.random.default_rng(seed)
    values = random.normal(size=shape)
    return np.where(random.random(shape) < 0.4, np.nan, values)


GAPPY = gappy((9, 6))
GAPPY[:, 0] = np.nan
GAPPY[:, 1] = [np.nan] * 4 + [2.0] + [np.nan] * 4
GAPPY[:, 2] = [np.nan, np.nan, 1.0, 3.0, 2.0, np.nan, 5.0, np.nan, np.nan]


@paths
def test_pieces_are_the_path_from_each_time_on(path):
    found = path(TIMES, tf.constant(GAPPY))
    pieces = found.pieces
    assert pieces.shape == (1, 9, 2 if path is Linear else 4, 6)
    for k, (start, end) in enumerate(itertools.pairwise(TIMES)):
        for s in (0.0, 0.3 * (end - start), end - start):
            expected = sum(c * s**i for i, c in enumerate(pieces[0, k].numpy()))
            np.testing.assert_allclose(found(start + s), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(pieces[0, -1, 1:], 0.0)


@paths
@pytest.mark.parametrize("order", [0, 1])
def test_scipy(path, order):
    u = path(TIMES, VALUES)
    found = (u if order == 0 else u.derivative)(AT)
    assert found.shape == (len(AT), 3) and found.dtype == tf.float64
    for c in range(3):
        expected = reference(path, TIMES, VALUES[:, c])(AT, order)
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-12, atol=1e-12)


@paths
@pytest.mark.parametrize("order", [0, 1])
def test_missing_values(path, order):
    u = path(TIMES, GAPPY)
    # Not at the last time, where a path has the derivative to the left.
    found = (u if order == 0 else u.derivative)(AT[:-1])
    for c in range(6):
        expected = gappy_reference(path, TIMES, GAPPY[:, c], AT[:-1], order)
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-11, atol=1e-11, err_msg=str(c))


ROWS = np.stack([TIMES, np.linspace(-3.0, 2.0, 9), np.linspace(0.0, 9.0, 9) ** 1.5])
ROWS[1, 6:] = ROWS[1, 5]
ROWS[2, 1:] = ROWS[2, 0]


@paths
def test_times_of_each_sample(path):
    """Row by row like paths of their own; what is behind the end of a row is ignored."""
    values = gappy((3, 9, 2))
    values[1, 5] = 1.0, np.nan
    u = path(ROWS, values)
    assert u.knots.shape == (3, 9)
    alone = [path(ROWS[i, :n], values[i, :n]) for i, n in enumerate((9, 6, 1))]
    for t in (-2.5, 0.3, 100.0, [-1.0, 0.3, 0.0], [5.0, ROWS[1, 5], 1.0], [0.0, 4.0, -1.0]):
        each = np.broadcast_to(t, 3)
        for found, name in ((u(t), "__call__"), (u.derivative(t), "derivative")):
            expected = [getattr(x, name)(each[i]) for i, x in enumerate(alone)]
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@paths
def test_shared_times_of_a_batch(path):
    values = gappy((4, 9, 2, 3))
    u, each = path(TIMES[np.newaxis], values), path(np.tile(TIMES, (4, 1)), values)
    assert u.knots.shape == (9,)
    for t in (0.5, [0.1, 0.7, -1.0, 9.0]):
        assert u(t).shape == u.derivative(t).shape == (4, 2, 3)
        np.testing.assert_array_equal(u(t), each(t))
        np.testing.assert_array_equal(u.derivative(t), each.derivative(t))


@pytest.mark.parametrize("channels", [(), (2,), (2, 1, 3)])
def test_channels(channels):
    values = np.random.default_rng(0).normal(size=(9, *channels))
    u = Hermite(TIMES, values)
    flat = Hermite(TIMES, values.reshape(9, -1))
    for t in (0.5, [0.5, 1.5]):
        shape = (*np.shape(t), *channels)
        assert u(t).shape == u.derivative(t).shape == shape
        np.testing.assert_array_equal(u(t), np.reshape(flat(t), shape))


@paths
def test_hold(path):
    u = path(TIMES, VALUES)
    for t, row in ((TIMES[0] - 1.0, 0), (TIMES[-1] + 1.0, -1)):
        np.testing.assert_allclose(u(t), VALUES[row], rtol=1e-13)
        np.testing.assert_array_equal(u.derivative(t), np.zeros(3))


@paths
def test_extrapolate(path):
    u = path(TIMES, VALUES, outside="extrapolate")
    at = [TIMES[0] - 1.0, TIMES[-1] + 0.5]
    for c in range(3):
        expected = reference(path, TIMES, VALUES[:, c])
        np.testing.assert_allclose(u(at)[:, c], expected(at), rtol=1e-12)
        np.testing.assert_allclose(u.derivative(at)[:, c], expected(at, 1), rtol=1e-12)


@paths
def test_raise(path):
    u = path(TIMES, VALUES, outside="raise")
    np.testing.assert_array_equal(u(AT), path(TIMES, VALUES)(AT))
    for t in (TIMES[0] - 1e-6, [0.0, TIMES[-1] + 1e-6]):
        for call in (u, u.derivative):
            with pytest.raises(tf.errors.InvalidArgumentError, match="outside of its own"):
                call(t)
            with pytest.raises(tf.errors.InvalidArgumentError, match="Received"):
                tf.function(call)(tf.constant(t))
            assert np.isnan(tf.function(call, jit_compile=True)(tf.constant(t))).all()


def test_rounding_puts_no_time_outside():
    """0.1 is larger in float32 than in float64."""
    u = Linear([0.0, 0.1], tf.constant([0.0, 1.0]), outside="raise")
    np.testing.assert_allclose(u(tf.constant(0.1)), 1.0, rtol=1e-6)
    u = Linear(tf.constant([-0.1, 0.0]), tf.constant([0.0, 1.0], tf.float64))
    np.testing.assert_allclose(u.derivative(tf.constant(-0.1, tf.float64)), 10.0, rtol=1e-6)


def differences(f, x, h=1e-6):
    """The gradient of a scalar function, by central differences."""
    x = np.array(x)
    result = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        result[i] = (float(f(x + step)) - float(f(x - step))) / (2.0 * h)
    return result


@paths
@pytest.mark.parametrize("outside", ["hold", "extrapolate"])
@pytest.mark.parametrize("derivative", [False, True])
def test_gradients(path, outside, derivative):
    values = gappy((2, 9, 2))
    values[0, :, 0] = np.nan
    times, t = np.stack([TIMES, TIMES**2 * np.sign(TIMES)]), np.array([0.4, 9.0])
    random = np.random.default_rng(2)
    weights = random.normal(size=(2, 2))

    def f(values, times, t):
        u = path(times, values, outside)
        return tf.reduce_sum(weights * (u.derivative(t) if derivative else u(t)))

    given = [tf.constant(x) for x in (values, times, t)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        result = f(*given)
    gradients = tape.gradient(result, given, unconnected_gradients="zero")
    assert np.any(gradients[0]) and np.any(gradients[1])
    assert not np.any(gradients[0].numpy()[np.isnan(values)])
    for moved, x in enumerate(given):
        for _ in range(3):
            step = 1e-6 * random.normal(size=x.shape)
            ends = [[*given[:moved], x + sign * step, *given[moved + 1 :]] for sign in (1, -1)]
            change = f(*ends[0]) - f(*ends[1])
            expected = 2.0 * tf.reduce_sum(gradients[moved] * step)
            np.testing.assert_allclose(change, expected, rtol=1e-6, atol=1e-12)


@paths
@pytest.mark.parametrize("outside", ["hold", "extrapolate"])
def test_derivative_is_that_of_autodiff(path, outside):
    u, t = path(TIMES, GAPPY, outside), tf.constant([-3.0, *AT, 30.0], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = tf.reduce_sum(u(t), 1)
    found = tape.gradient(value, t)
    np.testing.assert_allclose(found, tf.reduce_sum(u.derivative(t), 1), rtol=1e-11, atol=1e-11)


def test_second_derivatives():
    """In the time, and mixed with the values."""
    u, t = Hermite(TIMES, VALUES), tf.constant(AT[1:-1])
    values = tf.constant(VALUES)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([t, values])
        with tf.GradientTape() as first:
            first.watch(t)
            value = tf.reduce_sum(Hermite(TIMES, values)(t))
        slope = first.gradient(value, t)
    expected = sum(reference(Hermite, TIMES, VALUES[:, c])(AT[1:-1], 2) for c in range(3))
    np.testing.assert_allclose(tape.gradient(slope, t), expected, rtol=1e-10, atol=1e-10)
    expected = differences(lambda v: tf.reduce_sum(Hermite(TIMES, v).derivative(t)), VALUES, 1e-4)
    np.testing.assert_allclose(tape.gradient(slope, values), expected, rtol=1e-8, atol=1e-8)
    assert u.dtype == tf.float64


@pytest.mark.parametrize("rows", [None, 1, 3])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.few(1)
def test_modes(rows, jit_compile):
    """Eager, and traced for any batch and any number of times: with gradients, the same."""
    times = TIMES if rows is None else np.tile(TIMES, (rows, 1))
    values = gappy((9, 2) if rows is None else (3, 9, 2))

    def f(times, values, t):
        with tf.GradientTape() as tape:
            tape.watch([times, values, t])
            u = Hermite(times, values)
            value = u(t)
        return value, u.derivative(t[0]), *tape.gradient(value, [times, values, t])

    given = [tf.constant(times), tf.constant(values), tf.constant([0.5, -9.0, 2.0], tf.float64)]
    dims = [1 if rows == 1 else None] * (times.ndim - 1)
    shapes = [[*dims, None], [None] * values.ndim, [None]]
    signature = [tf.TensorSpec(shape, tf.float64) for shape in shapes]
    traced = tf.function(f, jit_compile=jit_compile, input_signature=signature)
    for found, expected in zip(traced(*given), f(*given)):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@paths
def test_one_time_and_no_sample(path):
    u = path([2.0], tf.constant([[3.0, np.nan]]), outside="extrapolate")
    np.testing.assert_array_equal(u(7.0), [3.0, 0.0])
    np.testing.assert_array_equal(u.derivative(2.0), [0.0, 0.0])
    for rows in (0, 1):
        empty = path(tf.zeros([rows, 1]), tf.zeros([0, 1, 4]))
        assert empty(0.5).shape == empty.derivative(tf.zeros([0])).shape == (0, 4)


@paths
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(path, dtype):
    """Values keep their dtype, and wide times their digits."""
    values = tf.cast(VALUES, dtype)
    times = 1e6 + TIMES
    found = path(times, values)(1e6 + AT)
    assert found.dtype == path(times, values).derivative(1e6).dtype == dtype
    exact = path(times, tf.cast(values, tf.float64))(1e6 + AT)
    error = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6, "float64": 1e-13}[dtype]
    np.testing.assert_allclose(tf.cast(found, tf.float64), exact, rtol=error, atol=error)


OK = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0.0, 1.0, 1.0], OK), ValueError, "strictly increasing"),
        (([0.0, 2.0, 1.0], OK), ValueError, "strictly increasing"),
        (([0.0, 1.0, np.nan], OK), ValueError, "finite"),
        (([0.0, 1.0, np.inf], OK), ValueError, "finite"),
        (([[0.0, 0.0, 1.0]], OK[None]), ValueError, "repeats its last time"),
        (([[0.0, 1.0, 0.5]], OK[None]), ValueError, "strictly increasing"),
        ((0.0, OK), ValueError, "`times` must have the shape"),
        (([], OK[:0]), ValueError, "n at least 1"),
        (([0.0, 1.0], OK), ValueError, r"times\[tf.newaxis\]"),
        (([[0.0, 1.0, 2.0]] * 2, OK[None]), ValueError, "`values` must have the shape"),
        (([[0.0, 1.0, 2.0]], OK[0]), ValueError, "`values` must have the shape"),
        ((tf.constant([0, 1, 2]), OK), TypeError, "`times` must be floats"),
        (([0.0, 1.0, 2.0], OK.astype(int)), TypeError, "`values` must be floats"),
        ((["a", "b", "c"], OK), TypeError, "`times` must be real numbers"),
        (([0.0, 1.0, 2.0], OK, "clip"), ValueError, "'hold', 'extrapolate', 'raise'"),
    ],
    ids=str,
)
@paths
def test_bad_arguments(path, arguments, error, words):
    with pytest.raises(error, match=words) as raised:
        path(*arguments)
    assert "Received:" in str(raised.value)


@pytest.mark.parametrize("times", [[0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [0.0, np.nan, 1.0]])
def test_bad_times_at_run_time(times):
    def f(times):
        return Hermite(times, tf.constant(OK))(0.5)

    with pytest.raises(tf.errors.InvalidArgumentError, match="strictly increasing.*Received"):
        tf.function(f)(tf.constant(times))
    assert np.isnan(tf.function(f, jit_compile=True)(tf.constant(times))).all()


@pytest.mark.parametrize(
    ("t", "error"),
    [([0.0, 1.0], ValueError), ([[0.5]], ValueError), (tf.constant(1), TypeError)],
    ids=str,
)
def test_bad_time(t, error):
    u = Linear([[0.0, 1.0, 2.0]], np.zeros((3, 3, 2), np.float32))
    with pytest.raises(error, match="`t` must be.*Received"):
        u(t)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data(), path=st.sampled_from(PATHS))
def test_a_path_goes_through_its_observations(data, path):
    n = data.draw(st.integers(1, 8))
    gaps = data.draw(st.lists(st.floats(1e-3, 10.0), min_size=n, max_size=n))
    values = data.draw(
        st.lists(st.floats(-1e3, 1e3) | st.just(np.nan), min_size=2 * n, max_size=2 * n)
    )
    times, values = np.cumsum(gaps), np.reshape(values, [n, 2])
    found = path(times, values)(times).numpy()
    there = ~np.isnan(values)
    assert np.isfinite(found).all()
    # The slopes may be large, and the last of the observations is at the end of a piece.
    np.testing.assert_allclose(found[there], values[there], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("changed", [1, 4, 8])
def test_hermite_is_causal(changed):
    """Later values change no earlier piece; the next piece begins with the same derivative."""
    other = VALUES.copy()
    other[changed:] += RANDOM.normal(size=other[changed:].shape)
    at = AT[TIMES[changed - 1] >= AT]
    one, two = Hermite(TIMES, VALUES), Hermite(TIMES, other)
    np.testing.assert_array_equal(one(at), two(at))
    if changed > 1:
        np.testing.assert_array_equal(one.derivative(at), two.derivative(at))
    later = 0.5 * (TIMES[changed - 1] + TIMES[changed])
    assert np.abs(one(later) - two(later)).min() > 1e-3


def test_hermite_has_a_continuous_derivative():
    u, eps = Hermite(TIMES, VALUES), 1e-9
    left, right = u.derivative(TIMES[1:-1] - eps), u.derivative(TIMES[1:-1] + eps)
    np.testing.assert_allclose(left, right, atol=1e-6)


# A damped oscillator, x'' = -x - c x' + u(t).
DAMPING = 0.3
KNOTS = np.array([0.0, 1.0, 1.8, 3.0])
FORCE = np.array([0.3, -1.0, 2.0, 0.5])


def exact_oscillation(path, force):
    """The last state from (1, 0), piece by piece, by SciPy."""
    u, y = reference(path, KNOTS, force), np.array([1.0, 0.0])
    for span in itertools.pairwise(KNOTS):
        y = solve_ivp(
            lambda t, y: [y[1], u(t) - y[0] - DAMPING * y[1]],
            span,
            y,
            "DOP853",
            rtol=1e-13,
            atol=1e-14,
        ).y[:, -1]
    return y


@pytest.mark.parametrize(
    ("gradient", "path"), [("checkpoint", Hermite), ("adjoint", Linear), ("backprop", Hermite)]
)
@pytest.mark.few(1)
def test_forced_oscillator(gradient, path):
    force = tf.constant(FORCE)

    @tf.function
    def solve():
        def f(t, y):
            return tf.stack([y[1], u(t) - y[0] - DAMPING * y[1]])

        y0 = tf.constant([1.0, 0.0], tf.float64)
        solver = tfnode.solvers.RK4(num_steps=300)  # Steps end at the knots.
        return tfnode.odeint(f, y0, KNOTS, solver=solver, gradient=gradient)[-1]

    with tf.GradientTape() as tape:
        tape.watch(force)
        u = path(KNOTS, force)
        y = solve()
        position = y[0]
    found = tape.gradient(position, force)
    np.testing.assert_allclose(y, exact_oscillation(path, FORCE), rtol=1e-10, atol=1e-10)
    # The state is affine in the force.
    free = exact_oscillation(path, np.zeros(4))
    expected = [(exact_oscillation(path, row) - free)[0] for row in np.eye(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_table_that_nobody_watches_costs_no_gradient():
    times, values = tf.linspace(0.0, 1.0, 300), tf.random.normal([300, 2], seed=0)

    def sources():
        u = Hermite(times, values)
        return VectorField(lambda t, y: ([u(t) - y[0]], []), tf.float32, [tf.zeros([2])]).sources

    assert sources() == []
    with tf.GradientTape() as tape:
        tape.watch(values)
        assert len(sources()) == 1


class Driven(keras.layers.Layer):
    """Dynamics driven by a series, of which the path is made in the call."""

    def build(self, times_shape, values_shape):
        self.dense = keras.layers.Dense(2)
        self.dense.build((None, 4))

    def call(self, times, values):
        u = Hermite(times, values)

        def f(t, y):
            return self.dense(tf.concat([u.derivative(t), y], -1))

        return tfnode.odeint(f, u(times[:, 0]), [0.0, 1.0], solver="rk4")[-1]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.few(1)
def test_in_a_layer(jit_compile):
    inputs = keras.Input((9,)), keras.Input((9, 2))
    model = keras.Model(inputs, Driven()(*inputs))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    times, values = np.tile(TIMES, (4, 1)).astype("f"), gappy((4, 9, 2)).astype("f")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch([times, values], np.ones((4, 2), "f")))
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights()))
