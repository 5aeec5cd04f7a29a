"""Keras's own rules for layers: its full test over every layer, masks, freezing, weights."""

import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src import testing

import tfnode
from tfnode import ODEBlock, layers, regularizers, solvers

pytestmark = pytest.mark.few(2)

RNG = np.random.default_rng(0)
IMAGES = {"input_shape": (2, 4, 4, 3)}
# The time is a scalar, and `fit`, which part of the test calls, takes arrays of samples alone.
FIELD = {"run_training_check": False}
ON_VECTORS = {"input_shape": {"t_shape": (), "y_shape": (2, 3)}, **FIELD}
ON_IMAGES = {"input_shape": {"t_shape": (), "y_shape": (2, 4, 4, 3)}, **FIELD}
VECTORS = {"input_shape": (2, 3)}
SERIES = {"input_shape": (2, 5, 3), "supports_masking": True}


def dynamics():
    return layers.DenseDynamics([3])


CASES = {
    "Augment": ({"n": 2}, {**VECTORS, "expected_output_shape": (2, 5), "supports_masking": True}),
    "Augment of integers": ({"n": 2}, {**VECTORS, "input_dtype": "int32"}),
    "BackwardEncoder": ({"units": 2}, {**SERIES, "expected_output_shape": (2, 2)}),
    "BottleneckDynamics": ({"filters": 2}, ON_IMAGES),
    "ConcatConv2D": ({"filters": 2}, {**ON_IMAGES, "expected_output_shape": (2, 4, 4, 2)}),
    "ConcatDense": ({"units": 2}, {**ON_VECTORS, "expected_output_shape": (2, 2)}),
    "ConvDynamics": ({"filters": 3}, ON_IMAGES),
    "DecayRNN": ({"units": 2}, {**SERIES, "expected_output_shape": (2, 2)}),
    "DenseDynamics": ({"hidden_units": 2}, ON_VECTORS),
    # In half precision the logarithm stays in float32, and the test wants one dtype of all.
    "FlowBlock": ({"dynamics": dynamics}, {**VECTORS, "run_mixed_precision_check": False}),
    "Forecaster": ({"units": 2}, {**SERIES, "expected_output_shape": (2, 10, 2)}),
    "FusedBatchNormalization": ({}, IMAGES),
    "GaussianSampling": ({}, {"input_shape": (2, 4), "expected_output_shape": (2, 2)}),
    "NeuralCDE": ({"units": 2}, {**SERIES, "expected_output_shape": (2, 2)}),
    "NeuralCDE with sequences": (
        {"units": 2, "return_sequences": True, "path": "linear"},
        {**SERIES, "expected_output_shape": (2, 5, 2)},
    ),
    "ODEBlock": ({"dynamics": dynamics}, {**VECTORS, "supports_masking": True}),
    "ODEBlock with sequences": (
        {"dynamics": dynamics, "return_sequences": True, "times": (0.0, 1.0, 3.0), "num_steps": 1},
        {**VECTORS, "expected_output_shape": (2, 3, 3), "supports_masking": False},
    ),
    "ODEBlock with a regulariser": (
        {"dynamics": dynamics, "regularizers": [regularizers.JacobianFrobenius(0.1)]},
        {**VECTORS, "expected_num_seed_generators": 1},
    ),
    # It needs to know the batch size, and the test leaves it open in `fit`.
    "ODEBlock with bdf": (
        {"dynamics": dynamics, "solver": "bdf"},
        {**VECTORS, "run_training_check": False},
    ),
    "ODERNN": ({"units": 2}, {**SERIES, "expected_output_shape": (2, 2)}),
    "ODERNN with sequences": (
        {"units": 2, "dynamics": dynamics, "return_sequences": True, "go_backwards": True},
        {**SERIES, "expected_output_shape": (2, 5, 2)},
    ),
    "SeriesGrid": ({"points": 4}, {**SERIES, "expected_output_shape": (2, 4, 6)}),
    "TimeBatchNormalization": ({}, ON_IMAGES),
}


def test_every_layer_is_here():
    assert {name.split()[0] for name in CASES} == set(layers.__all__)


# The others are slow.
FAST = ("Augment", "Augment of integers", "ConcatDense", "GaussianSampling", "ODEBlock")


@pytest.mark.parametrize(
    "name",
    [x if x in FAST else pytest.param(x, marks=pytest.mark.slow) for x in CASES],
)
@pytest.mark.filterwarnings("ignore")
def test_of_keras(name):
    arguments, options = CASES[name]
    arguments = {k: v() if inspect.isfunction(v) else v for k, v in arguments.items()}
    case = testing.TestCase("run_layer_test")
    case.run_layer_test(getattr(layers, name.split()[0]), arguments, **options)


# Dtypes


def test_float64_and_half_precision_of_sampling():
    """The divergence is not rounded, the output is."""
    inputs = RNG.normal(size=(3, 4))
    mean, log_variance = np.split(inputs, 2, axis=-1)
    divergence = 0.5 * (np.exp(log_variance) + mean**2 - 1.0 - log_variance).sum(-1).mean()
    layer = layers.GaussianSampling(dtype="float64")
    np.testing.assert_array_equal(layer(inputs), mean)
    np.testing.assert_allclose(layer.losses[0], divergence, rtol=1e-12)
    half = layers.GaussianSampling(dtype="mixed_bfloat16")
    assert half(inputs.astype("f4")).dtype == tf.bfloat16
    np.testing.assert_allclose(half.losses[0], divergence, rtol=1e-5)


def test_dtypes_of_a_flow_are_those_of_its_symbols():
    flow = layers.FlowBlock(dynamics(), "euler", dtype="mixed_bfloat16")
    x = tf.ones([2, 3])
    dtypes = [x.dtype for x in flow(keras.KerasTensor((2, 3)))]
    assert dtypes == [keras.backend.standardize_dtype(x.dtype) for x in flow(x)]
    assert dtypes == ["bfloat16", "float32"]


# Masks


def masked(x, mask):
    keras.src.backend.set_keras_mask(x, tf.constant(mask))
    return x


@pytest.mark.parametrize("make", [lambda: layers.Augment(1), lambda: ODEBlock(dynamics())])
def test_masks_are_passed_on(make):
    mask = [[True, False], [True, True]]
    outputs = make()(masked(tf.ones([2, 2, 3]), mask))
    np.testing.assert_array_equal(outputs._keras_mask, mask)


def test_a_mask_is_lost_with_sequences_and_keras_says_so():
    block = ODEBlock(dynamics(), return_sequences=True)
    with pytest.warns(UserWarning, match="destroy the mask"):
        outputs = block(masked(tf.ones([2, 2, 3]), [[True, False], [True, True]]))
    assert getattr(outputs, "_keras_mask", None) is None


@pytest.mark.parametrize("layer", [layers.BackwardEncoder, layers.Forecaster])
def test_masked_times_of_a_series_are_not_observed(layer):
    series = RNG.normal(size=(2, 4, 3)).astype("f4")
    series[..., -1] = 1.0
    mask = np.array([[True, True, False, True], [True, False, False, False]])
    unobserved = series.copy()
    unobserved[~mask] = 0.0
    layer = layer(3)
    expected = layer(tf.constant(unobserved))
    outputs = layer(masked(tf.constant(series), mask))
    np.testing.assert_array_equal(outputs, expected)
    assert np.abs(outputs - layer(tf.constant(series))).max() > 1e-3
    if isinstance(layer, layers.Forecaster):
        np.testing.assert_array_equal(outputs._keras_mask, np.c_[mask, np.ones_like(mask)])


def test_the_divergence_of_what_is_masked_does_not_count():
    inputs = RNG.normal(size=(2, 3, 4)).astype("f4")
    mask = np.array([[True, False, False], [True, True, False]])
    layer = layers.GaussianSampling()
    layer(masked(tf.constant(inputs), mask))
    found = float(layer.losses[0])
    layer(tf.constant(inputs[mask]))
    assert found == pytest.approx(float(layer.losses[0]), rel=1e-5)


# Freezing


@pytest.mark.parametrize("training", [True, False])
def test_frozen_averages_stay_and_are_used(training):
    """Like `keras.layers.BatchNormalization`."""
    layer = layers.ConvDynamics(3)
    t, y = tf.constant(0.3), tf.constant(RNG.normal(size=(2, 4, 4, 3)), tf.float32)
    layer(t, y, training=True)
    expected, before = layer(t, y, training=False), layer.get_weights()
    layer.trainable = False
    outputs = layer(t, y, training=training)
    np.testing.assert_array_equal(outputs, expected)
    for a, b in zip(layer.get_weights(), before):
        np.testing.assert_array_equal(a, b)
    layer.trainable = True
    assert np.abs(layer(t, y, training=True) - expected).max() > 1e-3


# Weights


@pytest.mark.parametrize("name", CASES)
def test_weights_go_round(name):
    arguments, options = CASES[name]
    shape = options["input_shape"]
    shapes = list(shape.values()) if isinstance(shape, dict) else [shape]
    inputs = [tf.constant(RNG.normal(size=s), tf.float32) for s in shapes]

    def make():
        built = {k: v() if inspect.isfunction(v) else v for k, v in arguments.items()}
        layer = getattr(layers, name.split()[0])(**built)
        layer(*inputs)
        return layer

    layer, other = make(), make()
    weights = [np.asarray(RNG.uniform(0.1, 1.0, w.shape), w.dtype) for w in layer.get_weights()]
    assert len(weights) == len(layer.weights)
    layer.set_weights(weights)
    other.set_weights(layer.get_weights())
    for a, b in zip(other.get_weights(), weights):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(tf.nest.flatten(other(*inputs)), tf.nest.flatten(layer(*inputs))):
        np.testing.assert_array_equal(a, b)


# Numbers of NumPy


@pytest.mark.parametrize(
    "make",
    [
        lambda f, i: solvers.Dopri5(f(0.5), f(0.5), f(0.5), i(7)),
        lambda f, i: solvers.RK4(num_steps=i(7)),
        lambda f, i: solvers.RK4(step_size=f(0.5)),
        lambda f, i: solvers.Dopri5(num_steps=i(7)),
        lambda f, i: solvers.BDF(f(0.5), f(0.5), i(7)),
        lambda f, i: tfnode.gradients.Adjoint(max_reconstruction_error=f(0.5)),
        lambda f, i: tfnode.gradients.Checkpoint(i(8)),
        lambda f, i: layers.Augment(i(7), name="x"),
        lambda f, i: layers.BackwardEncoder(i(7), name="x"),
        lambda f, i: layers.BottleneckDynamics(i(7), name="x"),
        lambda f, i: layers.ConcatConv2D(i(7), i(3), name="x"),
        lambda f, i: layers.ConcatConv2D(i(7), (i(3), i(5)), name="x"),
        lambda f, i: layers.ConcatDense(i(7), name="x"),
        lambda f, i: layers.ConvDynamics(i(7), i(3), name="x"),
        lambda f, i: layers.DecayRNN(i(7), name="x"),
        lambda f, i: layers.DenseDynamics(i(7), name="x"),
        lambda f, i: layers.DenseDynamics([i(7), i(5)], name="x"),
        lambda f, i: layers.Forecaster(i(7), name="x"),
        lambda f, i: layers.GaussianSampling(i(7), name="x"),
        lambda f, i: layers.NeuralCDE(i(7), rtol=f(0.5), solver="dopri5", name="x"),
        lambda f, i: layers.ODERNN(
            i(7), layers.DenseDynamics(2, name="y"), num_steps=i(2), name="x"
        ),
        lambda f, i: layers.SeriesGrid(i(7), name="x"),
        lambda f, i: layers.TimeBatchNormalization(f(0.5), f(0.25), i(7), name="x"),
        lambda f, i: tfnode.losses.GaussianLikelihood(f(0.5)),
    ],
)
def test_numbers_of_numpy(make):
    expected = repr(make(float, int).get_config())
    assert repr(make(np.float32, np.int64).get_config()) == expected
    assert repr(make(np.float64, np.uint8).get_config()) == expected


# The solver of a block


def test_options_of_the_solver_of_a_block():
    block = ODEBlock(dynamics(), "dopri5", rtol=1e-5, atol=1e-7, max_steps=9)
    assert repr(block.solver) == "Dopri5(rtol=1e-05, atol=1e-07, max_steps=9)"
    assert repr(ODEBlock(dynamics(), num_steps=5).solver) == "RK4(num_steps=5)"
    flow = layers.FlowBlock(dynamics(), step_size=0.25)
    assert repr(flow.solver) == "Dopri5(step_size=0.25)"
    again = ODEBlock.from_config(block.get_config())
    assert again.solver.get_config() == block.solver.get_config()


def test_a_step_that_nobody_chose_is_a_warning():
    """Over the layer's own unit of time, the documented default is a choice."""
    for arguments in ({}, {"solver": "euler"}):
        with pytest.warns(UserWarning, match=r'num_steps=.*"dopri5"') as caught:
            ODEBlock(dynamics(), times=(0.0, 5.0), **arguments)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ODEBlock(dynamics())
        ODEBlock(dynamics(), "rk4")
        for quiet in ({"solver": solvers.RK4()}, {"num_steps": 2}, {"solver": "dopri5"}):
            block = ODEBlock(dynamics(), times=(0.0, 5.0), **quiet)
            ODEBlock.from_config(block.get_config())
