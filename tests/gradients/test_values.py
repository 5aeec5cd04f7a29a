"""The values that a gradient is taken at: those of the forward solve, or an error."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import MODES

import tfnode

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "checkpoint", "backprop"]
f64 = tf.float64
Y0 = tf.constant([1.0], f64)
TIGHT = tfnode.solvers.Dopri5(rtol=1e-10, atol=1e-10)
RIGHT = -np.exp(-0.7)  # d/dk of exp(-k) at 0.7


def assigned_before_the_gradient(variable, gradient):
    """Return the gradient of a solve in `k`, which is assigned before the gradient is taken."""
    with tf.GradientTape() as tape:
        y = tfnode.odeint(
            lambda t, y: -tf.convert_to_tensor(variable) * y,
            Y0,
            [0.0, 1.0],
            solver=TIGHT,
            gradient=gradient,
        )[-1]
    variable.assign(3.0)
    source = variable.value if isinstance(variable, keras.Variable) else variable
    return tape.gradient(y, source)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_keras_variable_has_the_value_of_the_forward_solve(gradient, mode):
    variable = keras.Variable(0.7, dtype="float64")
    got = MODES[mode](lambda: assigned_before_the_gradient(variable, gradient))()
    np.testing.assert_allclose(got, RIGHT, rtol=1e-8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.few(1)
def test_another_variable_is_right_or_refused(gradient, mode):
    variable = tf.Variable(0.7, dtype=f64)
    run = MODES[mode](lambda: assigned_before_the_gradient(variable, gradient))
    if gradient == "backprop":
        np.testing.assert_allclose(run(), RIGHT, rtol=1e-8)
    elif mode == "xla":
        assert np.isnan(run())
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="assigned after|is lost"):
            run()


def test_frozen_variables_cost_no_gradient():
    frozen = keras.Variable(np.ones([5000]), dtype="float64", trainable=False)
    trained = keras.Variable(np.ones([5000]), dtype="float64")
    fields = []

    @tf.function
    def trace(y):
        problem = tfnode.problem.Problem(
            lambda t, y: y * frozen * trained, y, lambda dtype: tf.constant([0.0, 1.0], dtype)
        )
        fields.append(problem.vector_field)

    trace(tf.ones([5000], f64))
    assert len(fields[0].reads) == 2 and len(fields[0].sources) == 1


def test_feedback_through_an_updated_variable_is_refused():
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(2))
    x = tf.ones([4, 2])
    layer(x)
    with pytest.raises(ValueError, match="training=False"):
        tfnode.odeint(lambda t, y: layer(y, training=True), x, [0.0, 1.0])
    assert np.isfinite(tfnode.odeint(lambda t, y: layer(y), x, [0.0, 1.0])).all()


def python_call(kind, x):
    y = getattr(tf, kind)(lambda z: -0.7 * z, [x], x.dtype)
    return tf.ensure_shape(y, x.shape)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.few(1)
def test_numpy_in_the_dynamics_has_no_gradient(gradient):
    with tf.GradientTape() as tape:
        tape.watch(Y0)
        y = tfnode.odeint(
            lambda t, y: python_call("numpy_function", y),
            Y0,
            [0.0, 1.0],
            solver=TIGHT,
            gradient=gradient,
        )
    np.testing.assert_allclose(y[-1], np.exp([-0.7]), rtol=1e-8)
    with pytest.raises(NotImplementedError, match=r"tf\.numpy_function"):
        tape.gradient(y, Y0)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.few(1)
def test_numpy_as_a_function_of_time_alone_needs_no_gradient(gradient):
    rate = tf.Variable(0.7, dtype=f64)

    def forced(t, y):
        return python_call("numpy_function", t) - rate * y

    def same(t, y):
        return -0.7 * t - rate * y

    gradients = []
    for field in (forced, same):
        with tf.GradientTape() as tape:
            y = tfnode.odeint(field, Y0, [0.0, 1.0], solver=TIGHT, gradient=gradient)
        gradients.append(tape.gradient(y, rate))
    np.testing.assert_allclose(*gradients, rtol=1e-9)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.few(1)
def test_python_in_the_dynamics_is_right_or_refused(gradient):
    with tf.GradientTape() as tape:
        tape.watch(Y0)
        y = tfnode.odeint(
            lambda t, y: python_call("py_function", y),
            Y0,
            [0.0, 1.0],
            solver=TIGHT,
            gradient=gradient,
        )[-1]
    if gradient == "checkpoint":
        with pytest.raises(NotImplementedError, match="adjoint"):
            tape.gradient(y, Y0)
    else:
        np.testing.assert_allclose(tape.gradient(y, Y0), np.exp([-0.7]), rtol=1e-7)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.few(1)
def test_forward_mode_in_a_closed_over_tensor_is_right_or_refused(gradient):
    rate = tf.constant(0.7, f64)

    def tangent():
        with tf.autodiff.ForwardAccumulator(rate, tf.ones_like(rate)) as accumulator:
            y = tfnode.odeint(
                lambda t, y: -rate * y, Y0, [0.0, 1.0], solver=TIGHT, gradient=gradient
            )
        return accumulator.jvp(y)[-1]

    if gradient == "backprop":
        np.testing.assert_allclose(tangent(), [RIGHT], rtol=1e-8)
    else:
        with pytest.raises(NotImplementedError, match="backprop"):
            tangent()


def test_a_stopped_table_in_a_graph_costs_no_gradient():
    fields = []

    @tf.function
    def trace(y, table):
        for x in (table, 2.0 * tf.stop_gradient(table)):
            problem = tfnode.problem.Problem(
                lambda t, y, x=x: y * tf.gather(x, 0), y, lambda dtype: tf.constant([0, 1], dtype)
            )
            fields.append(problem.vector_field)

    trace(tf.ones([3], f64), tf.ones([1000], f64))
    assert [len(field.sources) for field in fields] == [1, 0]


def dense(kernel=0.7):
    layer = keras.layers.Dense(1, use_bias=False, dtype="float64")
    layer.build((None, 1))
    layer.kernel.assign([[kernel]])
    return layer


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.few(1)
def test_dynamics_that_are_a_function_of_tensorflow_see_new_weights(gradient):
    layer = dense()
    dynamics = tf.function(lambda t, y: layer(y))
    for kernel in (0.7, 0.5):
        layer.kernel.assign([[kernel]])
        with tf.GradientTape() as tape:
            y = tfnode.odeint(dynamics, Y0[:, None], [0.0, 1.0], solver=TIGHT, gradient=gradient)
            value = tf.reduce_sum(y[-1])
        np.testing.assert_allclose(value, np.exp(kernel), rtol=1e-8)
        np.testing.assert_allclose(
            tape.gradient(value, layer.kernel.value), [[np.exp(kernel)]], rtol=1e-7
        )


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_stopped_tensor_that_a_tape_watches(gradient):
    @tf.function
    def run(k):
        x = tf.stop_gradient(k)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tfnode.odeint(lambda t, y: -x * y, x, [0.0, 1.0], solver=TIGHT, gradient=gradient)
            value = y[-1]
        return tape.gradient(value, x)

    got = run(tf.constant(0.7, f64))
    np.testing.assert_allclose(got, 0.3 * np.exp(-0.7), rtol=1e-7)


DROPOUT = keras.layers.Dropout(0.5, dtype="float64")
COUNT = keras.Variable(0, dtype="int64")
FACTOR = keras.Variable(0.7, dtype="float64")


def drop(y):
    return -DROPOUT(y, training=True)


def assign_and_read(t, y):
    FACTOR.assign(0.5)
    return -FACTOR.value * y


REFUSED = {
    "dropout in a tf.function": (tf.function(lambda t, y: drop(y)), "Leave out the tf.function"),
    "dropout that is recomputed": (lambda t, y: tf.recompute_grad(drop)(y), "recompute_grad"),
    "assigned and read": (assign_and_read, "outside of the solve"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    dynamics, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        tfnode.odeint(dynamics, tf.ones([6], f64), [0.0, 1.0])


def test_a_counter_is_no_feedback():
    def dynamics(t, y):
        COUNT.assign_add(1)
        COUNT.assign_add(1)
        return -y

    y = tfnode.odeint(dynamics, Y0, [0.0, 1.0], solver=TIGHT)
    np.testing.assert_allclose(y[-1], np.exp([-1.0]), rtol=1e-8)


def test_an_event_of_random_dynamics_is_refused():
    with pytest.raises(ValueError, match="several solves"):
        tfnode.odeint_event(
            lambda t, y: 1.0 - drop(y), tf.ones([6], f64), 0.0, lambda t, y: y[0] - 3.0
        )
