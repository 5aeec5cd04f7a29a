"""`FlowBlock`: the change of density against closed forms and independent derivatives."""

import keras
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from problems import MATRIX, START
from test_regularizers import kinetic_energy

from tfnode import solvers
from tfnode.layers import DenseDynamics, FlowBlock
from tfnode.regularizers import JacobianFrobenius, KineticEnergy

RNG = np.random.default_rng(0)
# All noises of -1 and 1.
NOISES = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


@keras.saving.register_keras_serializable("test_flow_block")
def linear(t, y):
    return y @ tf.constant(MATRIX.T, y.dtype)


def dense(shape, solver=None, units=(5,), **kwargs):
    """A block of random weights, in float64."""
    dynamics = DenseDynamics(list(units), dtype="float64")
    block = FlowBlock(dynamics, solver or solvers.Dopri5(**TIGHT), dtype="float64", **kwargs)
    block.build(shape)
    for variable in block.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    return block


@pytest.mark.parametrize("times", [(0.0, 1.5), (1.0, 0.0)], ids=str)
@pytest.mark.few(2)
def test_linear_dynamics(times):
    block = FlowBlock(linear, solvers.Dopri5(**TIGHT), times=times, dtype="float64")
    x = RNG.normal(size=(4, 3))
    z, log_det = tf.function(block)(x)
    span = times[1] - times[0]
    np.testing.assert_allclose(z, x @ scipy.linalg.expm(MATRIX.T * span), rtol=1e-7)
    np.testing.assert_allclose(log_det, np.full(4, np.trace(MATRIX) * span), rtol=1e-7)
    np.testing.assert_allclose(tf.function(block.inverse)(z), x, rtol=1e-7)
    assert block.losses == []


def test_log_det_is_that_of_the_map():
    block = dense((None, 2, 2), solvers.RK4(num_steps=50))
    forward = tf.function(block)
    x = RNG.normal(size=(3, 2, 2))
    steps = 1e-5 * np.eye(4).reshape(4, 1, 2, 2)
    ends = np.concatenate([x + steps, x - steps]).reshape(24, 2, 2)
    moved = np.reshape(forward(ends)[0], (2, 4, 3, 4))
    jacobians = np.moveaxis((moved[0] - moved[1]) / 2e-5, 1, 0)
    _, expected = np.linalg.slogdet(jacobians)
    assert np.abs(expected).max() > 0.1
    z, log_det = forward(x)
    assert log_det.shape == (3,)
    np.testing.assert_allclose(log_det, expected, rtol=1e-6)
    np.testing.assert_allclose(tf.function(block.inverse)(z), x, rtol=1e-5)


def test_hutchinson_holds_its_noise_through_the_solve():
    block = FlowBlock(linear, solvers.RK4(num_steps=2), trace="hutchinson", dtype="float64")
    _, log_det = block(np.zeros((64, 3)))
    # Of linear dynamics the trace is the same everywhere, and any step is right.
    possible = np.einsum("ni,ij,nj->n", NOISES, MATRIX, NOISES)
    assert np.abs(log_det[:, np.newaxis] - possible).min(1).max() < 1e-12
    assert len(set(np.round(log_det.numpy(), 9))) > 1
    _, again = block(np.zeros((64, 3)))
    assert np.abs(log_det - again).max() > 0.0


def test_hutchinson_has_no_bias():
    block = dense((None, 3), solvers.RK4(num_steps=2))
    x = np.repeat(RNG.normal(size=(2, 3)), 4000, axis=0)
    _, exact = block(x[::4000])
    _, estimates = block(x, trace="hutchinson")
    estimates = np.reshape(estimates, (2, 4000))
    deviation = estimates.std(1) / np.sqrt(4000)
    assert deviation.min() > 1e-4
    assert (np.abs(estimates.mean(1) - exact) < 4 * deviation).all()


def test_auto_is_exact_for_few_elements():
    trace = np.full(2, np.trace(MATRIX))
    np.testing.assert_allclose(FlowBlock(linear)(np.zeros((2, 3)))[1], trace, rtol=1e-6)

    def wide(t, y):
        return tf.concat([linear(t, y[:, :3]), 0.0 * y[:, 3:]], 1)

    estimate = FlowBlock(wide)(np.zeros((64, 5)))[1]
    assert estimate.numpy().std() > 0.1
    exact = FlowBlock(wide, trace="exact")(np.zeros((2, 5)))[1]
    np.testing.assert_allclose(exact, trace, rtol=1e-6)


def test_regularizers_look_at_the_path_of_the_input_alone():
    terms = [KineticEnergy(3.0), JacobianFrobenius(2.0)]
    block = FlowBlock(linear, solvers.RK4(num_steps=16), times=(0.0, 1.5), regularizers=terms)
    block(np.stack([START, -START]), training=True)
    kinetic = 3.0 * kinetic_energy(0.0, 1.5)
    # Exact, as the trace is.
    np.testing.assert_allclose(
        block.losses, [kinetic + 2.0 * 1.5 * np.sum(MATRIX**2) / 3], rtol=1e-5
    )
    block(START[np.newaxis], training=True, trace="hutchinson")
    possible = kinetic + 2.0 * 1.5 * np.sum((NOISES @ MATRIX) ** 2, axis=1) / 3
    assert np.abs(block.losses[-1] - possible).min() < 1e-4


@pytest.mark.parametrize(
    ("gradient", "trace", "steps"),
    [("adjoint", "hutchinson", 20), ("checkpoint", "exact", 2), ("backprop", "exact", 1)],
)
@pytest.mark.few(2)
def test_gradient_against_finite_differences(gradient, trace, steps):
    terms = [KineticEnergy(0.7), JacobianFrobenius(1.3)]
    solver = solvers.RK4(num_steps=steps)
    block = dense((None, 2), solver, (3,), gradient=gradient, trace=trace, regularizers=terms)
    x = tf.Variable(RNG.normal(size=(3, 2)))
    w = block.trainable_variables[0]

    @tf.function
    def run():
        block.seed_generator.state.assign([5, 0])
        with tf.GradientTape() as tape:
            z, log_det = block(x, training=True)
            loss = tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(log_det**2) + block.losses[-1]
        return loss, tape.gradient(loss, [x, w])

    for variable, result in zip((x, w), run()[1]):
        at, direction, ends = variable.numpy(), RNG.normal(size=variable.shape), []
        for sign in (1, -1):
            variable.assign(at + sign * 1e-5 * direction)
            ends.append(run()[0])
        variable.assign(at)
        # The adjoint is the gradient of the differential equation.
        np.testing.assert_allclose(
            np.sum(result * direction),
            (ends[0] - ends[1]) / 2e-5,
            rtol=2e-4 if gradient == "adjoint" else 2e-6,
        )


def test_steps_are_the_same_with_and_without_regularizers():
    costs = []
    for terms in ((), [KineticEnergy(1.0), JacobianFrobenius(1.0)]):
        keras.utils.set_random_seed(0)
        block = FlowBlock(DenseDynamics([5]), regularizers=terms)
        block(np.float32([[1.0, 2.0], [0.0, 3.0]]), training=True)
        costs.append(block.costs())
    assert costs[0] == costs[1]
    assert costs[0]["forward_steps"] > 1


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.few(1)
def test_mixed_precision(policy):
    results = []
    for dtype in ("float32", policy):
        keras.utils.set_random_seed(3)
        keras.config.set_dtype_policy(dtype)
        block = FlowBlock(DenseDynamics([8]), solvers.RK4(num_steps=3))
        results.append(block(np.float32([[1.0, 2.0], [0.0, 3.0]])))
    (z, log_det), (z_half, log_det_half) = results
    assert (z_half.dtype.size, log_det_half.dtype) == (2, tf.float32)
    np.testing.assert_allclose(tf.cast(z_half, tf.float32), z, atol=0.05)
    np.testing.assert_allclose(log_det_half, log_det, atol=0.05)


def test_config_and_shapes():
    block = FlowBlock(linear, "tsit5", "adjoint", (0.0, 2.0), "exact", [KineticEnergy(1.0)])
    again = FlowBlock.from_config(block.get_config())
    assert again.get_config() == block.get_config()
    assert again.trace == "exact"
    z, log_det = block(keras.KerasTensor((None, 3)))
    assert (z.shape, log_det.shape) == ((None, 3), (None,))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`trace` must be one of.*Received"):
        FlowBlock(linear, trace="exakt")
    with pytest.raises(ValueError, match="shape of a sample.*Received"):
        tf.function(FlowBlock(linear, trace="exact")).get_concrete_function(
            tf.TensorSpec([None, None])
        )


def test_one_seed_whatever_the_regularizers():
    for regularizers in ([], [JacobianFrobenius(0.1)]):
        flow = FlowBlock(DenseDynamics([4]), regularizers=regularizers)
        flow.build((None, 2))
        assert len(flow.non_trainable_variables) == 1
