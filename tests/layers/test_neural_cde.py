"""`NeuralCDE`: the closed form of a linear one, a solution by SciPy, and the gradients of both."""

import itertools

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import tensorflow as tf
from problems import ONE_MODE, central_difference

from tfnode import solvers
from tfnode.interpolation import Linear
from tfnode.layers import NeuralCDE

pytestmark = pytest.mark.few(2)

RNG = np.random.default_rng(2)
TIMES = np.array([[0.0, 0.3, 0.4, 1.0], [2.0, 2.5, 2.5, 2.5], [-1.0, 0.5, 0.7, 0.9]])
VALUES = RNG.normal(size=(3, 4, 2))
VALUES[0, 1, 0] = VALUES[0, 0, 1] = VALUES[2, 2] = VALUES[1, 2:] = np.nan
FIELD, KERNEL, BIAS = RNG.normal(size=(3, 9)) / 3, RNG.normal(size=(2, 3)), RNG.normal(size=3)


def linear(path="linear", field=None, **options):
    """Return a layer with the field `f(z)_ij = sum_k z_k F_kij`, linear in `z`."""
    field = field or keras.layers.Dense(9, use_bias=False, dtype="float64")
    layer = NeuralCDE(3, field, path, dtype="float64", **options)
    layer.build((None, 4, 2))
    layer.initial.set_weights([KERNEL, BIAS])
    layer.field.kernel.assign(FIELD)
    return layer


def closed_form(values, times, field, kernel, bias):
    """Return the last states over straight lines: a product of matrix exponentials."""
    states = []
    field = tf.reshape(field, [3, 3, 3])  # z_k, row i, channel j.
    for x, t in zip(tf.unstack(values), tf.unstack(times)):
        points = [k for k in range(4) if k == 0 or t[k] > t[k - 1]]
        path = Linear(tf.stack([t[k] for k in points]), tf.stack([x[k] for k in points]))
        at = [tf.concat([t[k][tf.newaxis], path(t[k])], 0) for k in points]
        z = at[0][tf.newaxis, 1:] @ kernel + bias
        for before, after in itertools.pairwise(at):
            z = z @ tf.linalg.expm(tf.linalg.matvec(field, after - before))
        states.append(z[0])
    return tf.stack(states)


def differentiated(function, arguments, tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        states = function(*arguments)
        loss = tf.reduce_sum(states * tf.constant([1.0, -2.0, 0.5], tf.float64) + states**2)
    return loss, tape.gradient(loss, tensors)


ADAPTIVE, FIXED = solvers.Dopri5(rtol=1e-11, atol=1e-12), solvers.Dopri5(num_steps=30)
ACCURATE = {
    "checkpoint": {"solver": FIXED},
    "adjoint": {"solver": FIXED, "gradient": "adjoint"},
    "adaptive checkpoint": {"solver": ADAPTIVE},
    "backprop": {"solver": FIXED, "gradient": "backprop"},
    "adaptive backprop": {"solver": ADAPTIVE, "gradient": "backprop"},
    "adaptive adjoint": {"solver": ADAPTIVE, "gradient": "adjoint"},
    "step size": {"solver": "dopri5", "step_size": 0.003},
}
FAST = ("checkpoint", "adjoint")
NAMES = [x if x in FAST else pytest.param(x, marks=pytest.mark.slow) for x in ACCURATE]


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_field_has_the_closed_form_and_its_gradient(name):
    layer = linear(**ACCURATE[name])
    values, times = tf.constant(VALUES), tf.constant(TIMES)
    weights = [layer.field.kernel.value, layer.initial.kernel.value, layer.initial.bias.value]

    @tf.function
    def found():
        tensors = [values, times, *weights]
        return differentiated(lambda v, t: layer(v, times=t), (values, times), tensors)

    loss, gradients = found()
    arguments = [tf.constant(x) for x in (VALUES, TIMES, FIELD, KERNEL, BIAS)]
    expected, gradients_expected = differentiated(closed_form, arguments, arguments)
    np.testing.assert_allclose(loss, expected, rtol=1e-7)
    for i, (a, b) in enumerate(zip(gradients, gradients_expected)):
        a, b = a.numpy(), b.numpy()
        if i == 1:
            # The times of a row that ends early are one time, which it repeats.
            a, b = ([*x[0], *x[2], x[1, 0], x[1, 1:].sum()] for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path", ["linear", "hermite", "integral"])
def test_against_scipy(path):
    """A path of SciPy's, through all observations, and its solver."""
    layer = linear(path, solver=FIXED, return_sequences=True)
    values = RNG.normal(size=(1, 4, 2))
    found = layer(values, times=TIMES[:1])[0]
    t, x = TIMES[0], np.c_[TIMES[0], values[0]]
    slopes = np.diff(x, axis=0) / np.diff(t)[:, None]

    def slope(s, k):
        if path == "linear":
            return slopes[k]
        if path == "integral":
            return [1.0, *(x[k] + slopes[k] * (s - t[k]))[1:]]
        ends = slopes[[max(k - 1, 0), k]]  # Backward differences at both ends.
        piece = scipy.interpolate.CubicHermiteSpline(t[k : k + 2], x[k : k + 2], ends)
        return piece(s, 1)

    z = values[0, 0] @ KERNEL + BIAS
    for k in range(4):
        np.testing.assert_allclose(found[k], z, rtol=1e-6)
        if k < 3:
            z = scipy.integrate.solve_ivp(
                lambda s, z, k=k: (z @ FIELD).reshape(3, 3) @ slope(s, k),
                *((t[k], t[k + 1]), z),
                rtol=1e-10,
                atol=1e-12,
            ).y[:, -1]


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.slow  # The closed form above has gradients in every run.
@pytest.mark.parametrize("gradient", [None, "backprop"])
def test_gradient_is_that_of_what_was_computed(gradient, mode):
    """Finite differences of one coarse step a gap."""
    layer = NeuralCDE(2, gradient=gradient, dtype="float64")
    layer.build((None, 4, 2))
    for w in layer.weights:
        w.assign(0.5 + 0.4 * RNG.normal(size=w.shape))
    size = 8

    def loss(flat):
        # One value is missing.
        v, t = tf.reshape(flat[:size], [1, 4, 2]), tf.reshape(flat[size:], [1, 4])
        missing = [[[False] * 2, [False, True], [False] * 2, [False] * 2]]
        v = tf.where(missing, tf.constant(np.nan, v.dtype), v)
        return tf.reduce_sum(layer(v, times=t) ** 2)

    def gradient_of(flat):
        with tf.GradientTape() as tape:
            tape.watch(flat)
            value = loss(flat)
        return tape.gradient(value, [flat, *layer.trainable_variables])

    point = np.concatenate([RNG.normal(size=size), TIMES[0]])
    if mode != "eager":
        gradient_of = tf.function(gradient_of, jit_compile=mode == "xla")
    found, *by_weights = gradient_of(tf.constant(point))
    loss = tf.function(loss)
    expected = central_difference(lambda x: loss(tf.constant(x)), point)
    assert found[3] == 0.0 and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    for w, g in zip(layer.trainable_variables, by_weights):
        before = w.numpy().ravel()

        def moved(x, w=w):
            w.assign(x.reshape(w.shape))
            return loss(tf.constant(point))

        expected = central_difference(moved, before)
        w.assign(before.reshape(w.shape))
        np.testing.assert_allclose(np.ravel(g), expected, rtol=1e-6, atol=1e-8)


def test_a_later_observation_changes_no_earlier_state():
    layer = linear("hermite", return_sequences=True)
    values = np.nan_to_num(VALUES)
    before = layer(values, times=TIMES)
    values[0, 3] += 1.0
    after = layer(values, times=TIMES)
    np.testing.assert_array_equal(after[0, :3], before[0, :3])
    assert np.abs(after[0, 3] - before[0, 3]).max() > 0.01


def test_a_shift_of_the_times_changes_nothing():
    layer = linear("hermite")
    expected = layer(VALUES, times=TIMES)
    np.testing.assert_allclose(layer(VALUES, times=TIMES + 1e6), expected, rtol=1e-8)


@keras.saving.register_keras_serializable("test_neural_cde")
class Timed(keras.layers.Layer):
    """A field that depends on the time and returns a matrix."""

    def build(self, t_shape, z_shape):
        self.kernel = self.add_weight(shape=(3, 9), name="kernel")
        self.built = True

    def call(self, t, z):
        rows = keras.ops.reshape(keras.ops.matmul(z, self.kernel), (-1, 3, 3))
        return rows * keras.ops.cos(t)[:, None, None]


@pytest.mark.parametrize("options", [{"solver": FIXED}, {"solver": ADAPTIVE}], ids=str)
def test_a_field_that_depends_on_the_time(options):
    """With one channel of the time alone, `dz/dt = cos(t) z A` has the solution of `sin(t)`."""
    layer = linear("linear", Timed(dtype="float64"), **options)
    values = np.zeros((3, 4, 2))
    found = layer(values, times=TIMES)
    matrix = FIELD.reshape(3, 3, 3)[..., 0]
    for i in range(3):
        passed = np.sin(TIMES[i, -1]) - np.sin(TIMES[i, 0])
        expected = BIAS @ scipy.linalg.expm(matrix * passed)
        np.testing.assert_allclose(found[i], expected, rtol=1e-6)


def test_with_adaptive_steps_a_row_does_not_depend_on_the_others():
    layer = linear("hermite", solver="bosh3", rtol=1e-2, atol=1e-2)
    shapes = [tf.TensorSpec([None, 4, 2], "float64"), tf.TensorSpec([None, 4], "float64")]
    solve = tf.function(lambda v, t: layer(v, times=t), input_signature=shapes)
    together = solve(VALUES, TIMES)
    for i in range(3):
        alone = solve(VALUES[i : i + 1], TIMES[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-12)


def test_config_goes_round():
    layer = NeuralCDE(3, Timed(), "linear", "heun", "backprop", True, num_steps=2, name="x")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert repr(again.get_config()) == repr(layer.get_config())
    assert again.path_name == "linear" and again.return_sequences and again.solver.num_steps == 2


def test_errors():
    with pytest.raises(
        ValueError, match=r"`path` must be one of \['hermite', 'linear', 'integral'\]. Rec"
    ):
        NeuralCDE(3, path="cubic")
    with pytest.raises(ValueError, match="must be a Keras layer or model.* Received: field="):
        NeuralCDE(2, lambda t, h: -h)
    with pytest.raises(ValueError, match=r"in one row: \(1, 4\). Received: dense\w* with output"):
        NeuralCDE(2, keras.layers.Dense(3))(tf.zeros([1, 2, 1]))
    with pytest.raises(ValueError, match="cannot have an activity regularizer"):
        NeuralCDE(2, keras.layers.Dense(4, activity_regularizer="l2"))(tf.zeros([1, 2, 1]))
    with pytest.raises(ValueError, match="needs a Runge-Kutta solver of `tfnode.solvers`"):
        NeuralCDE(2, solver="bdf")
