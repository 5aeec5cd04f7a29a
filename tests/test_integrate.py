"""`odeint`: what it takes, what it refuses, and the dtypes in between."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

Y0 = np.array([[1.0, -0.5], [0.3, 2.0], [0.0, 1.0]], np.float32)
TIMES = [0.0, 0.5, 1.0]


def decay(t, y):
    return -y


class TimesState(keras.layers.Layer):
    """dy/dt = t w y."""

    def build(self, t_shape, y_shape):
        self.w = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.5))

    def call(self, t, y, training=None):
        return t * self.w * y


class OneInput(keras.layers.Layer):
    def call(self, state):
        return -state


class ThreeInputs(keras.layers.Layer):
    def call(self, t, y, z):
        return y


def dense(**kwargs):
    kwargs.setdefault("use_bias", False)
    return keras.layers.Dense(2, kernel_initializer=lambda shape, dtype: -np.eye(2), **kwargs)


def functional():
    x = keras.Input((2,))
    return keras.Model(x, dense()(x))


def two_inputs():
    t, y = keras.Input(batch_shape=()), keras.Input((2,))
    return keras.Model([t, y], 0.5 * t * y)


EXPONENTIAL = [np.exp(-t) for t in TIMES]
GAUSSIAN = [np.exp(t**2 / 4) for t in TIMES]


@pytest.mark.parametrize(
    ("make", "factors"),
    [
        (lambda: decay, EXPONENTIAL),
        (TimesState, GAUSSIAN),
        (OneInput, EXPONENTIAL),
        (dense, EXPONENTIAL),
        (lambda: keras.Sequential([dense(), dense(), dense()]), EXPONENTIAL),
        (functional, EXPONENTIAL),
        (two_inputs, GAUSSIAN),
    ],
    ids=["callable", "time_layer", "one_input", "dense", "sequential", "functional", "two_inputs"],
)
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_kinds_of_dynamics(make, factors, gradient):
    func = make()
    y0 = tf.constant(Y0)
    with tf.GradientTape() as tape:
        tape.watch(y0)
        ys = tfnode.odeint(func, y0, TIMES, solver=solvers.RK4(num_steps=10), gradient=gradient)
        last = tf.reduce_sum(ys[-1])
    assert ys.shape == (3, 3, 2)
    np.testing.assert_array_equal(ys[0], Y0)
    np.testing.assert_allclose(ys, np.multiply.outer(factors, Y0), rtol=1e-5, atol=1e-6)
    gradient_y0 = tape.gradient(last, y0)
    np.testing.assert_allclose(gradient_y0, np.full((3, 2), factors[-1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("t", "error"),
    [
        (0.0, ValueError),
        ([[0.0, 1.0]], ValueError),
        (tf.zeros([]), ValueError),
        (tf.constant([[0.0], [1.0]]), ValueError),
        ([0.0], ValueError),
        ([], ValueError),
        (tf.constant([1.0]), ValueError),
        ([0.0, 1.0, 0.5], ValueError),
        ([0.0, 1.0, 1.0], ValueError),
        (np.array([0.0, 0.0]), ValueError),
        (tf.constant([2.0, 1.0, 3.0]), ValueError),
        ([0.0, float("nan")], ValueError),
        ([float("nan"), 1.0, 2.0], ValueError),
        (["a", "b"], TypeError),
        ("now", TypeError),
        (tf.constant([0, 1]), TypeError),
        ([0.0, 1j], TypeError),
        (tf.constant(["0", "1"]), TypeError),
    ],
    ids=str,
)
def test_bad_times(t, error):
    with pytest.raises(error, match="Received") as raised:
        tfnode.odeint(decay, tf.constant(Y0), t, solver="rk4")
    assert "`t`" in str(raised.value)


@pytest.mark.parametrize("t", [[0.0, float("inf")], [-float("inf"), 0.0]])
def test_infinite_times(t):
    with pytest.raises(ValueError, match="finite.*Received"):
        tfnode.odeint(decay, tf.constant(Y0), t, solver="rk4")


@pytest.mark.parametrize("t", [[0.0, 2.0, 1.0], [1.0, 1.0], [0.0, np.nan, 1.0], [0.0]])
@pytest.mark.parametrize("spec", [[None], None])
def test_times_known_at_run_time(t, spec):
    @tf.function(input_signature=[tf.TensorSpec(spec, tf.float32)], reduce_retracing=True)
    def solve(times):
        return tfnode.odeint(decay, tf.constant(Y0), times, solver="rk4")

    np.testing.assert_allclose(solve([0.0, 0.1]), [Y0, np.exp(-0.1) * Y0], rtol=1e-5)
    np.testing.assert_allclose(solve([0.1, 0.0])[1], np.exp(0.1) * Y0, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received"):
        solve(t)


@pytest.mark.parametrize("t", [[0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [np.nan, 1.0, 2.0]], ids=str)
@pytest.mark.parametrize(
    ("solver", "gradient"),
    [("rk4", "adjoint"), ("rk4", "checkpoint"), ("dopri5", "checkpoint"), ("bdf", "adjoint")],
)
@pytest.mark.few(1)
def test_bad_times_under_xla_give_nan(t, solver, gradient):
    """Where nothing can be raised, no finite number may pass for a solution."""

    @tf.function(jit_compile=True)
    def solve(times, y0):
        with tf.GradientTape() as tape:
            tape.watch([times, y0])
            ys = tfnode.odeint(decay, y0, times, solver=solver, gradient=gradient)
        return ys[1:], tape.gradient(ys, [times, y0])

    for result in tf.nest.flatten(solve(tf.constant(t), tf.constant([1.0, 2.0]))):
        assert np.isnan(result).all()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
def test_tensors_in_a_list_of_times(gradient, compiled):
    """dy/dt = -y: the gradient in the last time is -y there; others keep their digits."""
    last = tf.constant(1.1)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(last)
            ys = tfnode.odeint(
                decay,
                tf.ones([], tf.float64),
                [0, 0.1, last],
                solver=solvers.RK4(num_steps=20),
                gradient=gradient,
            )
            final = ys[-1]
        return ys, tape.gradient(final, last)

    ys, found = (tf.function(run) if compiled else run)()
    np.testing.assert_allclose(ys[1], np.exp(-0.1), rtol=1e-10)
    np.testing.assert_allclose(found, -np.exp(-1.1), rtol=1e-6)


@pytest.mark.parametrize(
    "y0",
    [tf.constant([1, 2]), [1, 2], np.arange(3), {"a": tf.ones(2), "b": tf.constant([True])}, "x"],
    ids=["tensor", "list", "numpy", "nested", "string"],
)
def test_states_that_are_not_floats(y0):
    with pytest.raises(TypeError, match="float.*Received"):
        tfnode.odeint(decay, y0, TIMES, solver="rk4")


def test_no_state():
    with pytest.raises(ValueError, match="Received"):
        tfnode.odeint(decay, {}, TIMES, solver="rk4")


@pytest.mark.parametrize(
    ("func", "error"),
    [
        (lambda t, y: (y, y), ValueError),
        (lambda t, y: {"y": y}, ValueError),
        (lambda t, y: y[:, :1], ValueError),
        (lambda t, y: tf.reduce_sum(y), ValueError),
        (lambda t, y: y[tf.newaxis], ValueError),
        (lambda t, y: tf.cast(y, tf.int32), TypeError),
        (lambda t, y: tf.cast(y, tf.complex64), TypeError),
    ],
    ids=["tuple", "dict", "narrow", "scalar", "rank", "int", "complex"],
)
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_bad_derivatives(func, error, gradient):
    with pytest.raises(error, match="dynamics must return.*Received"):
        tfnode.odeint(func, tf.constant(Y0), TIMES, solver="rk4", gradient=gradient)


def test_a_derivative_that_was_not_returned():
    with pytest.raises((ValueError, TypeError), match="dynamics must return.*Received"):
        tfnode.odeint(lambda t, y: None, tf.constant(Y0), TIMES, solver="rk4")


@pytest.mark.parametrize(
    "func", [None, 3.0, "dense", tf.ones(2)], ids=["none", "float", "str", "tensor"]
)
def test_dynamics_that_cannot_be_called(func):
    with pytest.raises(ValueError, match="callable.*Received"):
        tfnode.odeint(func, tf.constant(Y0), TIMES, solver="rk4")


def test_layers_with_three_inputs():
    inputs = [keras.Input((2,)) for _ in range(3)]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    for func in (ThreeInputs(), model):
        with pytest.raises(ValueError, match="one input.*Received"):
            tfnode.odeint(func, tf.constant(Y0), TIMES, solver="rk4")


@pytest.mark.parametrize("option", [{"solver": "rk5"}, {"gradient": "adjiont"}])
def test_unknown_options(option):
    with pytest.raises(ValueError, match="Received"):
        tfnode.odeint(decay, tf.constant(Y0), TIMES, **{"solver": "rk4", **option})


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize(
    ("dtype", "scalar", "steps"),
    [(tf.float16, np.float16, 2000), (tf.bfloat16, ml_dtypes.bfloat16, 500)],
    ids=["float16", "bfloat16"],
)
def test_half_precision(dtype, scalar, steps, gradient):
    """Euler's steps are too small to move a half-precision state at all."""
    seen = []

    def func(t, y):
        seen.append((t.dtype, y.dtype))
        return -y

    @tf.function
    def solve(y0):
        with tf.GradientTape() as tape:
            tape.watch(y0)
            ys = tfnode.odeint(
                func, y0, [0.0, 1.0], solver=solvers.Euler(num_steps=steps), gradient=gradient
            )
            last = ys[-1]
        return ys, tape.gradient(last, y0)

    ys, dy0 = solve(tf.ones([1], dtype))
    assert ys.dtype == dy0.dtype == dtype
    assert set(seen) == {(tf.float32, dtype)}
    exact, unit = np.exp(-1.0), float(ml_dtypes.finfo(scalar).eps)
    half = scalar(1.0)
    for _ in range(steps):
        half = scalar(half - scalar(scalar(1 / steps) * half))
    received = float(tf.cast(ys[-1, 0], tf.float64))
    assert abs(float(half) - exact) > 0.1
    assert abs(received - exact) < unit * exact
    assert abs(float(tf.cast(dy0[0], tf.float64)) - exact) < unit * exact


def test_lists_of_times_keep_float64():
    """dy/dt = 1 gives the times back: a float32 list would lose half of their digits."""
    times = [0.1, 0.3, 0.7]
    seen = []

    def func(t, y):
        seen.append(t.dtype)
        return tf.ones_like(y)

    ys = tfnode.odeint(func, tf.constant([0.1], tf.float64), times, solver="rk4")
    assert ys.dtype == tf.float64
    assert set(seen) == {tf.dtypes.float64}
    np.testing.assert_allclose(ys[:, 0], times, rtol=0, atol=4e-16)


def test_numpy_times_and_int_times_with_a_float32_state():
    for t in (np.array([0.0, 1.0]), [0, 1], (0, 1), np.array([0, 1])):
        ys = tfnode.odeint(decay, tf.constant(Y0), t, solver=solvers.RK4(num_steps=10))
        assert ys.dtype == tf.float32
        np.testing.assert_allclose(ys[1], np.exp(-1.0) * Y0, rtol=1e-5)


def test_wide_times_of_a_float32_state():
    """Times a thousandth apart, a million from zero, are equal in float32."""
    seen = []

    def func(t, y):
        seen.append(t.dtype)
        return -1000.0 * y

    times = tf.constant([1e6, 1e6 + 1e-3], tf.float64)
    ys = tfnode.odeint(func, tf.constant(Y0), times, solver=solvers.RK4(num_steps=10))
    assert ys.dtype == tf.float32
    assert set(seen) == {tf.float32}
    np.testing.assert_allclose(ys[1], np.exp(-1.0) * Y0, rtol=1e-4)


def test_gradient_in_times_of_a_wider_dtype():
    """dy/dt = y: the gradient in the last time is y there, in the dtype of the times."""
    times = tf.constant([0.0, 0.5], tf.float64)
    for gradient in ("adjoint", "backprop"):
        with tf.GradientTape() as tape:
            tape.watch(times)
            ys = tfnode.odeint(
                lambda t, y: y,
                tf.ones([1]),
                times,
                solver=solvers.RK4(num_steps=10),
                gradient=gradient,
            )
            last = ys[-1]
        result = tape.gradient(last, times)
        assert result.dtype == tf.float64
        np.testing.assert_allclose(result, [-np.exp(0.5), np.exp(0.5)], rtol=1e-5)


def test_nested_state_of_two_dtypes():
    y0 = {"a": tf.ones([2], tf.float64), "b": [tf.ones([1, 3], tf.float16)]}

    def func(t, y):
        assert t.dtype == tf.float64
        assert (y["a"].dtype, y["b"][0].dtype) == (tf.float64, tf.float16)
        return {"a": -y["a"], "b": [2 * tf.ones_like(y["b"][0])]}

    ys = tfnode.odeint(func, y0, TIMES, solver=solvers.RK4(num_steps=20))
    tf.nest.assert_same_structure(ys, y0)
    assert (ys["a"].dtype, ys["b"][0].dtype) == (tf.float64, tf.float16)
    np.testing.assert_allclose(ys["a"][:, 0], EXPONENTIAL, rtol=1e-7)
    np.testing.assert_array_equal(ys["b"][0], np.multiply.outer([1, 2, 3], np.ones((1, 3))))


def test_return_stats():
    ys, stats = tfnode.odeint(
        decay, tf.constant(Y0), TIMES, solver=solvers.RK4(num_steps=3), return_stats=True
    )
    assert ys.shape == (3, 3, 2)
    assert stats._fields[:3] == ("num_evaluations", "num_steps", "num_rejected")
    assert [int(x) for x in stats] == [24, 6, 0]
    assert all(x.dtype == tf.int32 and x.shape == () for x in stats)


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_stats_count_what_is_evaluated(gradient):
    counter = tf.Variable(0)

    @tf.function
    def solve(y0):
        def func(t, y):
            counter.assign_add(1)
            return -y

        return tfnode.odeint(
            func,
            y0,
            TIMES,
            solver=solvers.RK38(step_size=0.2),
            gradient=gradient,
            return_stats=True,
        )

    _, stats = solve(tf.constant(Y0))
    assert int(stats.num_evaluations) == int(counter) == 2 * 3 * 4


@pytest.mark.parametrize("traced", [False, True])
def test_times_of_no_length_say_what_to_do(traced):
    def solve(t):
        return tfnode.odeint(lambda t, y: -y, tf.constant([1.0]), t)

    run = tf.function(solve) if traced else solve
    times = tf.constant([4.0, 4.0])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="Leave one out"):
        run(times)
