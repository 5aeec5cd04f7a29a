"""`Divergence`: stops in time, and blames the right part."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfnode
from tfnode import solvers
from tfnode.callbacks import Diverged, Divergence

pytestmark = pytest.mark.few(2)

STEPS = 40
X = np.random.default_rng(0).normal(size=(4 * STEPS, 2)).astype("float32")
Y = X[:, :1]


def _batches(x=X, y=Y):
    def batches(epoch):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(4).repeat().skip(STEPS * epoch)

    return batches


class _Steps(keras.callbacks.Callback):
    """How many steps were taken."""

    taken = 0

    def on_train_batch_end(self, batch, logs=None):
        self.taken = batch + 1


def _message(layers, x=X, y=Y, rate=1e-3, jit_compile=False, optimizer="SGD", **options):
    """Trains until it diverges; returns the message and the steps that were taken."""
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile(getattr(keras.optimizers, optimizer)(rate), "mse", jit_compile=jit_compile)
    steps = _Steps()
    divergence = Divergence(_batches(x, y))
    with pytest.raises(Diverged) as error:
        try:
            model.fit(
                _batches(x, y)(0),
                steps_per_epoch=STEPS,
                callbacks=[steps, divergence],
                verbose=0,
                shuffle=False,
                **options,
            )
        except tf.errors.InvalidArgumentError as failure:
            raise divergence.explain(failure) from failure
    return str(error.value), steps.taken


def _with(array, sample, value):
    array = array.copy()
    array[sample] = value
    return array


@pytest.mark.parametrize("step", [1, 8, 9, 37])
def test_the_step_is_named_and_nearly_the_last(step):
    y = _with(Y, 4 * (step - 1), math.inf)
    # Adam, whose moments are spoilt too and must be as they were to find the step.
    message, taken = _message([keras.layers.Dense(1)], y=y, optimizer="Adam")
    assert f"epoch 1, step {step}: loss is" in message
    assert "outputs of all layers are finite, the loss is not" in message
    assert step <= taken < step + 8


def test_data():
    message, _ = _message([keras.layers.Dense(1)], x=_with(X, 20, math.nan))
    assert "step 6: loss is nan. It is the data" in message


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("solver", ["rk4", "heun21"])
def test_data_before_a_solver(solver, jit_compile):
    """The solver's error, where there is one, comes before the loss."""
    layers = [_block(solver, weight=0.1), keras.layers.Dense(1)]
    message, taken = _message(layers, x=_with(X, 20, math.nan), jit_compile=jit_compile)
    assert "epoch 1, step 6" in message
    assert "It is the data" in message
    assert taken == 8 if jit_compile else taken == 5


def test_validation_data_before_a_solver():
    validation = (_with(X, 0, math.nan), Y)
    message, taken = _message([_block("rk4", weight=0.1)], validation_data=validation)
    assert "epoch 1, validation. It is the solver: RK4 failed" in message
    assert taken == STEPS


def test_a_learning_rate_that_is_too_high():
    message, _ = _message([keras.layers.Dense(1)], rate=1e4)
    assert "It is the optimizer: its steps are too long" in message
    assert "Try a learning rate below 10000." in message


def test_a_gradient():
    """The root of zero has a finite value and no finite slope."""
    layers = [keras.layers.Lambda(lambda x: x * 0.0), keras.layers.Dense(1, use_bias=False)]
    layers.append(keras.layers.Lambda(lambda x: tf.sqrt(x)))
    message, _ = _message(layers)
    assert "epoch 1, step 2: loss is nan" in message or "step 1: loss is nan" in message
    assert "It is the optimizer: the gradient of dense" in message


class _Quadratic(keras.layers.Layer):
    """dy/dt = w |y| y, which has no solution for long where `w` is large."""

    def __init__(self, weight):
        super().__init__()
        self.initial = weight

    def build(self, shape):
        self.w = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self.initial), name="w"
        )

    def call(self, y):
        return self.w * tf.abs(y) * y


def _block(solver, weight=30.0, gradient="backprop"):
    return tfnode.ODEBlock(_Quadratic(weight), solver, gradient)


def test_a_fixed_step_solver():
    block = _block(solvers.RK4(num_steps=20))
    message, _ = _message([block, keras.layers.Dense(1)])
    assert "It is the solver: RK4 failed" in message
    assert "time reached = 0" in message
    assert "RK4(num_steps=20) from 0 to 1" in message
    assert "The largest weight is 30" in message


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_adaptive_solver(jit_compile):
    """XLA has no assertions: there the loss is NaN, and the solver's error is found after."""
    block = _block(solvers.Heun21(max_steps=50))
    message, _ = _message([block, keras.layers.Dense(1)], jit_compile=jit_compile)
    assert "It is the solver: Heun21 failed" in message
    assert "time reached = 0." in message
    assert "last step size = " in message
    assert "max_steps=50" in message
    assert "File" not in message
    assert "\n" not in message


def test_a_solver_of_tensorflow_probability():
    """It has no `get_config`."""
    block = _block(tfp.math.ode.DormandPrince(max_num_steps=50), gradient="adjoint")
    message, _ = _message([block, keras.layers.Dense(1)])
    assert "It is the solver: max_num_steps exceeded" in message
    assert "DormandPrince" in message


def test_a_solver_that_fails_for_the_weights():
    block = _block(solvers.Heun21(max_steps=50), weight=0.05)
    message, _ = _message([block, keras.layers.Dense(1)], rate=1e3)
    assert "It is the optimizer: its steps are too long" in message


@pytest.mark.few(1)
@pytest.mark.parametrize("value, cause", [(np.nan, "the solver: RK4 failed"), (np.inf, "the data")])
def test_a_series(value, cause):
    """NaN is a missing value there, and no bad data."""
    values = np.ones((8 * STEPS, 3, 2), np.float32)
    values[::3, 1, 0] = value
    times = np.tile(np.float32([0, 1, 2]), (len(values), 1))
    labels = values[:, 0, :1]

    def batches(epoch):
        del epoch
        return tf.data.Dataset.from_tensor_slices(((values, times), labels)).batch(8).repeat()

    inputs = keras.Input((3, 2)), keras.Input((3,))
    dynamics = keras.Sequential([keras.Input((1,)), _Quadratic(1e4)])
    h = tfnode.layers.ODERNN(1, dynamics, gradient="backprop")(inputs[0], times=inputs[1])
    model = keras.Model(inputs, keras.layers.Dense(1)(h))
    model.compile("sgd", "mse", jit_compile=False)
    divergence = Divergence(batches)
    with pytest.raises(Diverged) as error:
        try:
            model.fit(batches(0), steps_per_epoch=STEPS, callbacks=[divergence], verbose=0)
        except tf.errors.InvalidArgumentError as failure:
            raise divergence.explain(failure) from failure
    assert f"It is {cause}" in str(error.value)
    assert ("from point to point" in str(error.value)) == (cause != "the data")


def test_other_errors_are_not_explained():
    divergence = Divergence(_batches())
    assert divergence.explain(tf.errors.ResourceExhaustedError(None, None, "no memory")) is None


def test_validation_alone():
    layers = [keras.layers.Dense(1)]
    message, taken = _message(layers, validation_data=(X, _with(Y, 0, math.nan)))
    assert "val_loss is nan" in message
    assert "in the validation alone" in message
    assert taken == STEPS


def test_nothing_happens_otherwise():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(
        _batches()(0),
        epochs=2,
        steps_per_epoch=STEPS,
        callbacks=[Divergence(_batches())],
        verbose=0,
    )
    assert len(history.history["loss"]) == 2
