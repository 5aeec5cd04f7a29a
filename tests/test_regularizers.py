"""Regularisers of the path: closed forms, gradients, and every mode of execution."""

import json
import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import tensorflow as tf
from problems import MATRIX, START

from tfnode import ODEBlock, models, regularizers, solvers
from tfnode.layers import ConvDynamics, DenseDynamics
from tfnode.regularizers import JacobianFrobenius, KineticEnergy

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "checkpoint", "backprop"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 2)).astype(np.float32)
Y = RNG.normal(size=(8, 1)).astype(np.float32)


@keras.saving.register_keras_serializable("test_regularizers")
def linear(t, y):
    return y @ tf.constant(MATRIX.T, y.dtype)


def path_loss(block, x, **kwargs):
    outputs = block(tf.constant(x), training=True, **kwargs)
    (loss,) = block.losses
    return float(loss), outputs


# Values


def kinetic_energy(start, end):
    """The mean over the dimensions of the integral of ||A y||^2."""
    return scipy.integrate.quad(
        lambda t: np.mean((MATRIX @ scipy.linalg.expm(MATRIX * (t - start)) @ START) ** 2),
        start,
        end,
        epsabs=1e-12,
    )[0]


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
@pytest.mark.parametrize("times", [(0.0, 1.5), (0.0, 0.4, 1.5), (1.0, 0.0)], ids=str)
def test_kinetic_energy_of_linear_dynamics(solver, times):
    solver = solvers.get(solver)
    exact = {"num_steps": 60} if hasattr(solver, "num_steps") else {"rtol": 1e-9, "atol": 1e-9}
    block = ODEBlock(linear, type(solver)(**exact), times=times, regularizers=[KineticEnergy(3.0)])
    # Backward in time the path has a positive length, too.
    expected = 3.0 * abs(kinetic_energy(times[0], times[-1]))
    loss, _ = path_loss(block, np.stack([START, START, -START]))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_jacobian_of_linear_dynamics():
    """The mean over many samples, each with noise of its own, is the squared Frobenius norm."""
    block = ODEBlock(linear, times=(0.0, 1.5), regularizers=[JacobianFrobenius(2.0)])
    samples = 4096
    loss, _ = path_loss(block, RNG.normal(size=(samples, 3)))
    # What noise of -1 and 1 gives for one sample: all eight draws of it.
    draws = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
    squares = 2.0 * 1.5 * np.sum((draws @ MATRIX) ** 2, axis=1) / 3
    np.testing.assert_allclose(squares.mean(), 2.0 * 1.5 * np.sum(MATRIX**2) / 3, rtol=1e-12)
    assert abs(loss - squares.mean()) < 5 * squares.std() / math.sqrt(samples)


def test_noise_is_drawn_anew_for_each_solve_and_held_through_it():
    block = ODEBlock(linear, solvers.RK4(num_steps=7), regularizers=[JacobianFrobenius(3.0)])
    losses = [path_loss(block, START[np.newaxis])[0] for _ in range(12)]
    # Were it not held, the loss would be a mean of different draws.
    draws = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
    possible = np.sum((draws @ MATRIX) ** 2, axis=1)
    distances = np.abs(np.array(losses)[:, np.newaxis] - possible)
    assert distances.min(1).max() < 1e-6
    assert len(set(np.round(losses, 6))) > 1


def test_nested_state():
    """The mean is over the elements of all parts of the state."""

    def dynamics(t, y):
        return {"a": 2.0 * tf.ones_like(y["a"]), "b": 3.0 * y["a"][:, :1]}

    weights = [KineticEnergy(1.0), JacobianFrobenius(1.0)]
    block = ODEBlock(dynamics, "euler", regularizers=weights)
    block({"a": tf.ones([4, 2]), "b": tf.ones([4, 1])}, training=True)
    # 2, 2 and 3 in three elements; of the Jacobian, 3 in one of them.
    np.testing.assert_allclose(block.losses, [(4 + 4 + 9) / 3 + 9 / 3], rtol=1e-6)


def test_the_weighted_sum():
    def loss(*terms):
        block = ODEBlock(linear, regularizers=terms)
        if block._noisy:
            block.seed_generator.state.assign([3, 0])
        return path_loss(block, START[np.newaxis])[0]

    both = loss(KineticEnergy(0.3), JacobianFrobenius(0.7))
    parts = 0.3 * loss(KineticEnergy(1.0)) + 0.7 * loss(JacobianFrobenius(1.0))
    np.testing.assert_allclose(both, parts, rtol=1e-6)
    assert loss(KineticEnergy(0), JacobianFrobenius(1.0)) == loss(JacobianFrobenius(1.0))


def test_weights_of_zero_cost_nothing():
    block = ODEBlock(linear, regularizers=[KineticEnergy(0), JacobianFrobenius(0.0)])
    block(START[np.newaxis], training=True)
    assert block.losses == []
    assert not hasattr(block, "seed_generator")
    assert [x.weight for x in block.regularizers] == [0.0, 0.0]


@pytest.mark.few(1)
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
def test_steps_are_the_same_with_and_without(gradient):
    results, weights = [], None
    for terms in ((), [KineticEnergy(0.1), JacobianFrobenius(0.1)]):
        keras.utils.set_random_seed(1)
        block = ODEBlock(DenseDynamics(8), "heun21", gradient, regularizers=terms)
        block.build(X.shape)
        weights = weights or block.get_weights()
        block.set_weights(weights)

        @tf.function
        def run(block=block):
            with tf.GradientTape() as tape:
                outputs = block(X, training=True)
                loss = tf.reduce_sum(outputs**2)
            return outputs, tape.gradient(loss, block.trainable_variables)

        outputs, derivatives = run()
        results.append((block.costs(), outputs, derivatives))
    (costs, outputs, derivatives), (costs_with, outputs_with, derivatives_with) = results
    assert costs["forward_steps"] > 1
    assert {k: v for k, v in costs.items() if k != "reconstruction_error"} == {
        k: v for k, v in costs_with.items() if k != "reconstruction_error"
    }
    np.testing.assert_allclose(outputs, outputs_with, rtol=1e-6)
    # They are not in this loss, so they are not in its gradient.
    for a, b in zip(derivatives, derivatives_with):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, None])
def test_no_loss_and_no_noise_without_training(training):
    block = ODEBlock(linear, regularizers=[JacobianFrobenius(1.0)])
    state = block.seed_generator.state.numpy()
    outputs = block(X[:, :1] * np.ones(3), training=training)
    assert block.losses == []
    np.testing.assert_array_equal(block.seed_generator.state, state)
    np.testing.assert_array_equal(outputs, ODEBlock(linear)(X[:, :1] * np.ones(3)))


# Gradients


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(
    ("solver", "sequences"),
    [
        (solvers.RK4(num_steps=40), True),
        (solvers.Tsit5(rtol=1e-10, atol=1e-10), True),
        (solvers.Dopri8(rtol=1e-10, atol=1e-10), True),
        (solvers.Dopri5(rtol=1e-10, atol=1e-10), False),
    ],
    ids=["rk4", "tsit5", "dopri8", "dopri5"],
)
@pytest.mark.few(1)
def test_gradient_against_finite_differences(gradient, solver, sequences):
    w = keras.Variable(RNG.normal(size=(4, 3)), dtype="float64")

    def dynamics(t, y):
        return tf.tanh(y @ w.value[:3] + t * w.value[3])

    block = ODEBlock(
        dynamics,
        solver,
        gradient,
        return_sequences=sequences,
        regularizers=[KineticEnergy(0.7), JacobianFrobenius(1.3)],
        dtype="float64",
    )
    x = tf.Variable(RNG.normal(size=(2, 3)))
    times = tf.Variable([0.1, 0.5, 0.9], dtype=tf.float64)
    block.build(x.shape)

    @tf.function
    def value(with_path=True):
        block.seed_generator.state.assign([5, 0])
        outputs = block(x, times=tf.identity(times), training=True)
        return tf.reduce_sum(tf.sin(outputs)) + with_path * block.losses[-1]

    @tf.function
    def derivative():
        with tf.GradientTape() as tape:
            result = value()
        return tape.gradient(result, [w.value, x, times])

    for variable, result in zip((w, x, times), derivative()):
        at, direction = variable.numpy(), RNG.normal(size=variable.shape)
        ends, without = [], []
        for sign in (1, -1):
            variable.assign(at + sign * 1e-5 * direction)
            ends.append(float(value()))
            without.append(float(value(False)))
        variable.assign(at)
        expected = (ends[0] - ends[1]) / 2e-5
        # The path has a part in it, or nothing would be shown.
        assert abs(expected - (without[0] - without[1]) / 2e-5) > 1e-3
        np.testing.assert_allclose(np.sum(result * direction), expected, rtol=2e-6, atol=1e-8)


# Modes of execution


@pytest.mark.few(1)
@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint", "backprop"])
def test_eager_function_and_xla_agree(gradient):
    solver = "dopri5" if gradient == "adjoint" else solvers.Heun(num_steps=2)
    block = ODEBlock(
        DenseDynamics(4, dtype="float64"),
        solver,
        gradient,
        regularizers=[KineticEnergy(0.7), JacobianFrobenius(1.3)],
        dtype="float64",
    )
    x = tf.constant(X, tf.float64)
    block.build(x.shape)

    def run():
        block.seed_generator.state.assign([5, 0])
        with tf.GradientTape() as tape:
            outputs = block(x, training=True)
            loss = tf.reduce_sum(outputs**2) + block.losses[-1]
        return [loss, *tape.gradient(loss, block.trainable_variables)]

    eager = run()
    for mode in (tf.function(run), tf.function(run, jit_compile=True)):
        for a, b in zip(mode(), eager):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_bdf():
    """Its quadratures are part of its state."""
    block = ODEBlock(
        linear,
        solvers.BDF(rtol=1e-7, atol=1e-9),
        times=(0.0, 1.5),
        regularizers=[KineticEnergy(1.0), JacobianFrobenius(1.0)],
    )
    x = tf.constant(START[np.newaxis])
    block.build(x.shape)

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            block(x, training=True)
            loss = block.losses[-1]
        return loss, tape.gradient(loss, x)

    loss, by_x = run(x)
    eps = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
    possible = kinetic_energy(0.0, 1.5) + 1.5 * np.mean((eps @ MATRIX) ** 2, axis=1)
    assert np.abs(possible - loss).min() < 1e-4
    # The energy is a square of the start; the Jacobian does not depend on it.
    np.testing.assert_allclose(np.sum(by_x[0] * START), 2 * kinetic_energy(0.0, 1.5), rtol=1e-3)


@pytest.mark.few(1)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    losses, derivatives = [], []
    for dtype in ("float32", policy):
        keras.utils.set_random_seed(3)
        keras.config.set_dtype_policy(dtype)
        block = ODEBlock(
            DenseDynamics(8),
            solvers.RK4(num_steps=3),
            regularizers=[KineticEnergy(0.5), JacobianFrobenius(0.5)],
        )
        block.seed_generator.state.assign([5, 0])
        with tf.GradientTape() as tape:
            block(X, training=True)
            (loss,) = block.losses
        assert loss.dtype == tf.float32
        losses.append(loss)
        derivatives.append(tape.gradient(loss, block.trainable_variables))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    for a, b in zip(*derivatives):
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max() + 1e-3)


@pytest.mark.few(1)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_convolutions_and_norms_have_the_second_derivatives(norm):
    block = ODEBlock(
        ConvDynamics(4, norm=norm), regularizers=[KineticEnergy(0.5), JacobianFrobenius(0.5)]
    )
    x = tf.constant(RNG.normal(size=(2, 5, 5, 4)).astype(np.float32))
    block.build(x.shape)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            block(x, training=True)
            loss = block.losses[-1]
        return loss, tape.gradient(loss, block.trainable_variables)

    loss, derivatives = run()
    assert loss > 0.0
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in derivatives)


MIRRORED = """
import json
import keras, numpy as np, tensorflow as tf, tfnode
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
losses = []
for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        terms = {"kineticenergy": 0.5, "jacobianfrobenius": %s}
        block = tfnode.ODEBlock(tfnode.layers.DenseDynamics(4), regularizers=terms)
        model = keras.Sequential([keras.Input((2,)), block])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensors((x, x)).repeat(3).unbatch().batch(8)
    losses.append(model.fit(data, epochs=2, verbose=0).history["loss"])
print(json.dumps(losses))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", [0.0, 1.0])
def test_two_replicas(jacobian):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED % jacobian],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    # Replicas draw other noise.
    np.testing.assert_allclose(one, two, rtol=0.5 if jacobian else 1e-5)


# In models


def test_in_fit_after_saving_and_loading(tmp_path):
    keras.utils.set_random_seed(2)
    block = ODEBlock(
        DenseDynamics(4), "dopri5", regularizers=[KineticEnergy(0.5), JacobianFrobenius(0.25)]
    )
    model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    assert model.count_params() == block.count_params() + 3
    loss = model.fit(X, Y, verbose=0).history["loss"][0]
    error = model.evaluate(X, Y, verbose=0)  # Without the path.
    block(X, training=True)
    np.testing.assert_allclose(loss - error, block.losses[0], rtol=0.5)  # Other noise.
    assert loss - error > 1e-3

    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    terms = loaded.layers[0].regularizers
    assert [(type(x), x.weight) for x in terms] == [(KineticEnergy, 0.5), (JacobianFrobenius, 0.25)]
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    again = loaded.fit(X, Y, verbose=0).history["loss"][0]
    np.testing.assert_allclose(again, loss, rtol=0.5)
    assert again - error > 1e-3


@pytest.mark.slow
def test_energy_falls_in_training():
    energies = {}
    for weight in (0.0, 1.0):
        keras.utils.set_random_seed(4)
        block = ODEBlock(DenseDynamics(8), regularizers=[KineticEnergy(weight)])
        model = keras.Sequential([keras.Input((2,)), block])
        model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
        batches = np.tile(X, (30, 1))
        model.fit(batches, 2 * batches, batch_size=len(X), shuffle=False, verbose=0)
        measure = ODEBlock(block.dynamics, regularizers=[KineticEnergy(1.0)])
        energies[weight] = path_loss(measure, X)[0]
    assert energies[1.0] < 0.7 * energies[0.0]


def test_odenet_with_names():
    terms = {"kineticenergy": 0.1, "jacobianfrobenius": 0.2}
    model = models.odenet((12, 12, 1), 3, filters=4, norm="group", regularizers=terms)
    plain = models.odenet((12, 12, 1), 3, filters=4, norm="group")
    assert model.count_params() == plain.count_params()
    model(np.ones((2, 12, 12, 1), np.float32), training=True)
    assert len(model.losses) == 1
    (block,) = [layer for layer in model.layers if isinstance(layer, ODEBlock)]
    assert [x.weight for x in block.regularizers] == [0.1, 0.2]


@pytest.mark.parametrize(
    "terms",
    [
        {"kinetic": 1.0},
        {"kineticenergy": -1.0},
        {"kineticenergy": "much"},
        "kineticenergy",
        [keras.regularizers.L2(0.1)],
        None,
    ],
    ids=lambda x: str(x).partition(" object")[0],
)
def test_bad_options(terms):
    with pytest.raises(ValueError, match="Received"):
        ODEBlock(linear, regularizers=terms)


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan, True, "1", None])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match="Received: weight="):
        KineticEnergy(weight)


def test_configs():
    terms = regularizers.get([KineticEnergy(0.1), JacobianFrobenius(2)])
    again = regularizers.get(json.loads(json.dumps(regularizers.serialize(terms))))
    assert [(type(x), x.weight) for x in again] == [(KineticEnergy, 0.1), (JacobianFrobenius, 2.0)]
