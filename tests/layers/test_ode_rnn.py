"""`ODERNN`: the closed form of a linear one, its gradients, and what the cell sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import ONE_MODE, central_difference

from tfnode import gradients, solvers
from tfnode.layers import ODERNN, DenseDynamics

pytestmark = pytest.mark.few(2)

RNG = np.random.default_rng(1)
TIMES = np.array([[0.0, 0.3, 0.4, 1.0], [2.0, 2.5, 2.5, 2.5], [-1.0, 0.5, 0.7, 0.9]])
VALUES = RNG.normal(size=(3, 4, 2))
VALUES[0, 1, 0] = VALUES[2, 2] = VALUES[1, 2:] = np.nan
MATRIX, KERNEL = RNG.normal(size=(3, 3)) / 3, RNG.normal(size=(4, 3))


@keras.saving.register_keras_serializable("test_ode_rnn")
class Adding(keras.layers.Layer):
    """A cell that adds a linear image of its inputs and a constant to the state."""

    state_size = 3

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")
        self.built = True

    def call(self, inputs, states):
        h = states[0] + keras.ops.matmul(inputs, self.kernel) + 0.1
        return h, [h]


def linear(**options):
    """Return a layer of linear dynamics `dh/dt = h A` and the cell `h + x K + 0.1`."""
    dynamics = keras.layers.Dense(3, use_bias=False, dtype="float64")
    layer = ODERNN(3, dynamics, Adding(dtype="float64"), dtype="float64", **options)
    layer.build((None, 4, 2))
    layer.dynamics.kernel.assign(MATRIX)
    layer.rnn_cell.kernel.assign(KERNEL)
    return layer


def closed_form(values, times, matrix, kernel, backwards=False):
    """Return the last states, by matrix exponentials, one row after the other."""
    states = []
    for x, t in zip(tf.unstack(values), tf.unstack(times)):
        h, before = tf.zeros([1, 3], tf.float64), None
        points = [k for k in range(4) if k == 0 or t[k] > t[k - 1]]
        for k in reversed(points) if backwards else points:
            if before is not None:
                h = h @ tf.linalg.expm(matrix * (t[k] - before))
            before, seen = t[k], ~tf.math.is_nan(x[k])
            if tf.reduce_any(seen):
                inputs = tf.concat([tf.where(seen, x[k], 0.0), tf.cast(seen, tf.float64)], 0)
                h += inputs[tf.newaxis] @ kernel + 0.1
        states.append(h[0])
    return tf.stack(states)


def loss_of(states):
    return tf.reduce_sum(states * tf.constant([1.0, -2.0, 0.5], tf.float64) ** 2 + states**2)


def differentiated(function, arguments, tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = loss_of(function(*arguments))
    return loss, tape.gradient(loss, tensors)


ADAPTIVE, FIXED = solvers.Dopri5(rtol=1e-11, atol=1e-12), solvers.Dopri5(num_steps=30)
ACCURATE = {
    "checkpoint": {"solver": FIXED},
    "adjoint": {"solver": FIXED, "gradient": "adjoint"},
    "adaptive checkpoint": {"solver": ADAPTIVE},
    "backwards": {"solver": FIXED, "go_backwards": True},
    "backprop": {"solver": FIXED, "gradient": "backprop"},
    "adaptive backprop": {"solver": ADAPTIVE, "gradient": "backprop"},
    "adaptive adjoint": {"solver": ADAPTIVE, "gradient": "adjoint"},
    "step size": {"solver": "dopri5", "step_size": 0.02},
    "backwards, adaptive": {"solver": ADAPTIVE, "go_backwards": True},
}
FAST = ("checkpoint", "backwards")
NAMES = [x if x in FAST else pytest.param(x, marks=pytest.mark.slow) for x in ACCURATE]


@pytest.mark.parametrize("name", NAMES)
def test_linear_dynamics_have_the_closed_form_and_its_gradient(name):
    options = ACCURATE[name]
    layer = linear(**options)
    values, times = tf.constant(VALUES), tf.constant(TIMES)
    weights = [layer.dynamics.kernel.value, layer.rnn_cell.kernel.value]

    @tf.function
    def found():
        arguments = values, times
        return differentiated(lambda v, t: layer(v, times=t), arguments, [values, times, *weights])

    loss, gradients = found()
    arguments = values, times, tf.constant(MATRIX), tf.constant(KERNEL)
    expected, gradients_expected = differentiated(
        lambda *x: closed_form(*x, "backwards" in name), arguments, list(arguments)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-7)
    for i, (a, b) in enumerate(zip(gradients, gradients_expected)):
        b = np.where(np.isnan(VALUES), 0.0, b) if i == 0 else b.numpy()
        a = a.numpy()
        if i == 1:
            # The times of a row that ends early are one time, which it repeats.
            a, b = ([*x[0], *x[2], x[1, 0], x[1, 1:].sum()] for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.slow  # The closed form above has gradients in every run.
@pytest.mark.parametrize("gradient", [None, "backprop"])
def test_gradient_is_that_of_what_was_computed(gradient, mode):
    """Finite differences of one coarse step a gap, of a network that depends on the time."""
    layer = ODERNN(2, DenseDynamics([3], dtype="float64"), gradient=gradient, dtype="float64")
    layer.build((None, 4, 2))
    for w in layer.weights:
        w.assign(0.7 * RNG.normal(size=w.shape))
    values = np.where(np.isnan(VALUES), 0.3, VALUES)[:1]
    size = values.size

    def loss(flat):
        v, t = tf.reshape(flat[:size], [1, 4, 2]), tf.reshape(flat[size:], [1, 4])
        return tf.reduce_sum(layer(v, times=t) ** 2)

    def gradient_of(flat):
        with tf.GradientTape() as tape:
            tape.watch(flat)
            value = loss(flat)
        return tape.gradient(value, [flat, *layer.trainable_variables])

    point = np.concatenate([values.ravel(), TIMES[0]])
    if mode != "eager":
        gradient_of = tf.function(gradient_of, jit_compile=mode == "xla")
    found, *by_weights = gradient_of(tf.constant(point))
    loss = tf.function(loss)
    expected = central_difference(lambda x: loss(tf.constant(x)), point)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    for w, g in zip(layer.trainable_variables, by_weights):
        before = w.numpy().ravel()

        def moved(x, w=w):
            w.assign(x.reshape(w.shape))
            return loss(tf.constant(point))

        expected = central_difference(moved, before)
        w.assign(before.reshape(w.shape))
        np.testing.assert_allclose(np.ravel(g), expected, rtol=1e-6, atol=1e-8)


def test_a_point_without_observations_moves_the_state_alone():
    """The state there is the one that the ODE came to."""
    layer = linear(num_steps=30, return_sequences=True)
    states = layer(VALUES, times=TIMES)[2]
    expected = states[1:2] @ tf.linalg.expm(MATRIX * (TIMES[2, 2] - TIMES[2, 1]))
    np.testing.assert_allclose(states[2], expected[0], rtol=1e-8)


def test_with_adaptive_steps_a_row_does_not_depend_on_the_others():
    layer = linear(solver="bosh3", rtol=1e-2, atol=1e-2)
    shapes = [tf.TensorSpec([None, 4, 2], "float64"), tf.TensorSpec([None, 4], "float64")]
    solve = tf.function(lambda v, t: layer(v, times=t), input_signature=shapes)
    together = solve(VALUES, TIMES)
    for i in range(3):
        alone = solve(VALUES[i : i + 1], TIMES[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-12)


@pytest.mark.slow
def test_adaptive_steps_under_xla():
    layer = linear(solver=solvers.Dopri5(rtol=1e-8, atol=1e-9))
    values, times = tf.constant(VALUES), tf.constant(TIMES)

    def gradient():
        return differentiated(lambda v, t: layer(v, times=t), (values, times), [values, times])[1]

    for a, b in zip(tf.function(gradient, jit_compile=True)(), tf.function(gradient)()):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_cell_of_several_states_and_with_dropout():
    """The ODE moves the first; the masks are drawn once a call, and are not kept."""
    cell = keras.layers.LSTMCell(3, dropout=0.5, recurrent_dropout=0.5)
    layer = ODERNN(3, cell=cell, return_sequences=True)
    values, times = VALUES.astype("f4"), TIMES.astype("f4")
    first = layer(values, times=times)
    np.testing.assert_array_equal(first, layer(values, times=times, training=False))
    trained = [layer(values, times=times, training=True) for _ in range(2)]
    assert np.abs(trained[0] - first).max() > 1e-3 and np.abs(trained[0] - trained[1]).max() > 1e-3
    assert cell._dropout_mask is None
    # What does not move is an LSTM of Keras.
    for w in layer.dynamics.weights:
        w.assign(tf.zeros_like(w))
    seen = np.nan_to_num(values), ~np.isnan(values)
    inputs = np.concatenate(seen, 2).astype("f4")[:1]
    expected = keras.layers.RNN(cell, return_sequences=True)(inputs)
    np.testing.assert_allclose(layer(values[:1], times=times[:1]), expected, rtol=1e-5, atol=1e-6)


def test_config_goes_round(tmp_path):
    layer = ODERNN(
        3, DenseDynamics([4]), Adding(), "heun", "backprop", True, True, num_steps=2, name="x"
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert repr(again.get_config()) == repr(layer.get_config())
    assert isinstance(again.cell, Adding) and again.go_backwards and again.return_sequences
    assert again.solver.num_steps == 2 and isinstance(again.gradient, gradients.Backprop)


def test_errors():
    with pytest.raises(ValueError, match=r"`cell` must be one of \[.*\]. Received: cell='lstm'"):
        ODERNN(3, cell="lstm")
    with pytest.raises(ValueError, match=r"`units` components. Received: units=2, .*state_size=3"):
        ODERNN(2, cell=Adding())
    stacked = keras.layers.StackedRNNCells([keras.layers.GRUCell(3), keras.layers.GRUCell(3)])
    with pytest.raises(ValueError, match="Stack layers instead.* Received: cell=stacked"):
        ODERNN(3, cell=stacked)
    with pytest.raises(ValueError, match="must be a Keras layer or model.* Received: dynamics="):
        ODERNN(2, lambda t, h: -h)
    with pytest.raises(ValueError, match="needs a Runge-Kutta solver of `tfnode.solvers`"):
        ODERNN(2, solver="bdf")
    with pytest.raises(ValueError, match="must return the shape of the state"):
        ODERNN(2, keras.layers.Dense(3))(tf.zeros([1, 2, 1]))
    with pytest.raises(ValueError, match="cannot have an activity regularizer"):
        ODERNN(2, keras.layers.Dense(2, activity_regularizer="l2"))(tf.zeros([1, 2, 1]))
