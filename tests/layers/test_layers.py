"""The layers that vector fields are built from, against explicit Keras operations."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfnode import ODEBlock, solvers
from tfnode.layers import (
    Augment,
    BottleneckDynamics,
    ConcatConv2D,
    ConcatDense,
    ConvDynamics,
    DenseDynamics,
    TimeBatchNormalization,
)

pytestmark = pytest.mark.few(2)

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 5, 4, 3)).astype(np.float32)
VECTORS = RNG.normal(size=(3, 4)).astype(np.float32)
T = 0.7


def with_time(y, t=T):
    return ops.concatenate([ops.full((*y.shape[:-1], 1), t, dtype=y.dtype), y], -1)


def randomize(layer):
    """Nonzero biases too."""
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.get_weights()])


def gradients_of(function, *inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(tf.sin(function(*inputs)))
    return tape.gradient(loss, inputs)


# ConcatConv2D and ConcatDense


@pytest.mark.parametrize("kernel_size", [3, 1, (2, 3), (5, 1), (4, 4), (7, 3)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_concat_conv2d(kernel_size, use_bias):
    layer = ConcatConv2D(2, kernel_size, activation="tanh", use_bias=use_bias)
    layer(tf.constant(T), IMAGES)
    randomize(layer)
    size = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    kernel, *bias = layer.get_weights()
    assert kernel.shape == (*size, 4, 2)
    assert len(bias) == use_bias

    def explicit(t, y):
        time = t * tf.ones_like(y[..., :1])
        x = ops.conv(tf.concat([time, y], -1), kernel, padding="same")
        return ops.tanh(x + bias[0] if use_bias else x)

    inputs = tf.constant(T), tf.constant(IMAGES)
    expected = explicit(*inputs)
    assert expected.shape == (2, 5, 4, 2)
    # At the border, the zeros around the image are no time.
    np.testing.assert_allclose(layer(*inputs), expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(gradients_of(layer, *inputs), gradients_of(explicit, *inputs)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_concat_conv2d_with_unknown_sizes():
    layer = ConcatConv2D(2, (2, 3))
    expected = layer(tf.constant(T), IMAGES)
    function = tf.function(
        layer,
        input_signature=[tf.TensorSpec([]), tf.TensorSpec([None, None, None, 3])],
    )
    np.testing.assert_allclose(function(T, IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert function(T, IMAGES[:1, :3]).shape == (1, 3, 4, 2)
    symbolic = layer(keras.KerasTensor(()), keras.KerasTensor((None, 5, 4, 3)))
    assert symbolic.shape == (None, 5, 4, 2)
    assert layer.compute_output_shape((), (None, 5, 4, 3)) == (None, 5, 4, 2)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 4)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_concat_dense(shape, use_bias):
    y = tf.constant(RNG.normal(size=shape), tf.float32)
    layer = ConcatDense(2, "relu", use_bias=use_bias)
    layer(tf.constant(T), y)
    randomize(layer)
    kernel, *bias = layer.get_weights()
    assert kernel.shape == (5, 2)
    assert len(bias) == use_bias

    def explicit(t, y):
        x = ops.matmul(tf.concat([t * tf.ones_like(y[..., :1]), y], -1), kernel)
        return ops.relu(x + bias[0] if use_bias else x)

    inputs = tf.constant(T), y
    np.testing.assert_allclose(layer(*inputs), explicit(*inputs), rtol=1e-5, atol=1e-6)
    for a, b in zip(gradients_of(layer, *inputs), gradients_of(explicit, *inputs)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    symbolic = layer(keras.KerasTensor(()), keras.KerasTensor((None, *shape[1:])))
    assert symbolic.shape == (None, *shape[1:-1], 2)


@pytest.mark.parametrize(
    ("make", "y"),
    [(lambda: ConcatConv2D(2, activation="relu"), IMAGES), (lambda: ConcatDense(2), VECTORS)],
    ids=["conv", "dense"],
)
def test_concat_layers_in_mixed_precision(make, y):
    reference = make()
    expected = reference(tf.constant(T), y)
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = make()
    layer.build((), y.shape)
    layer.set_weights(reference.get_weights())
    outputs = layer(tf.constant(T), y)
    assert outputs.dtype == tf.bfloat16
    assert layer.kernel.dtype == "float32"
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, atol=0.05)


@pytest.mark.parametrize("layer", [ConcatConv2D, ConcatDense])
@pytest.mark.parametrize("size", [0, -1, 2.5, True, "2", None])
def test_bad_sizes(layer, size):
    with pytest.raises(ValueError, match="positive int.*Received"):
        layer(size)


@pytest.mark.parametrize("kernel_size", [0, (3,), (3, 3, 3), (3, 0), (3, 1.5)])
def test_bad_kernel_sizes(kernel_size):
    with pytest.raises(ValueError, match="`kernel_size`.*Received"):
        ConcatConv2D(2, kernel_size)


@pytest.mark.parametrize("kernel_size", [None, 3.0])
def test_kernel_sizes_that_are_not_sequences(kernel_size):
    with pytest.raises(ValueError, match="`kernel_size`.*Received"):
        ConcatConv2D(2, kernel_size)


@pytest.mark.parametrize("shape", [(None, 4), (None, 5, 4, None)])
def test_concat_conv2d_refuses_shapes(shape):
    with pytest.raises(ValueError, match="height, width, channels.*Received"):
        ConcatConv2D(2).build((), shape)


# Augment


@pytest.mark.parametrize("y", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_augment(y):
    layer = Augment(2)
    outputs = layer(y)
    zeros = np.zeros((*y.shape[:-1], 2), np.float32)
    np.testing.assert_array_equal(outputs, np.concatenate([y, zeros], -1))
    np.testing.assert_array_equal(Augment(0)(y), y)
    symbolic = layer(keras.KerasTensor((None, *y.shape[1:])))
    assert symbolic.shape == (None, *y.shape[1:-1], y.shape[-1] + 2)
    assert Augment.from_config(layer.get_config()).n == 2


@pytest.mark.parametrize("n", [-1, 1.0, True, "2", None])
def test_augment_refuses(n):
    with pytest.raises(ValueError, match="`n` must be.*Received"):
        Augment(n)


# Dynamics


def test_dense_dynamics():
    layer = DenseDynamics([3, 5], "relu")
    layer(tf.constant(T), VECTORS)
    randomize(layer)
    weights = layer.get_weights()
    assert [w.shape for w in weights] == [(5, 3), (3,), (4, 5), (5,), (6, 4), (4,)]
    y = VECTORS
    for i, activation in enumerate((ops.relu, ops.relu, lambda x: x)):
        y = activation(ops.matmul(with_time(y), weights[2 * i]) + weights[2 * i + 1])
    np.testing.assert_allclose(layer(tf.constant(T), VECTORS), y, rtol=1e-5, atol=1e-5)


def test_bottleneck_dynamics():
    layer = BottleneckDynamics(5)
    layer(tf.constant(T), IMAGES)
    randomize(layer)
    kernels, biases = layer.get_weights()[::2], layer.get_weights()[1::2]
    assert [w.shape for w in kernels] == [(1, 1, 4, 5), (3, 3, 6, 5), (1, 1, 6, 3)]
    y = IMAGES
    for kernel, bias, activation in zip(kernels, biases, (ops.relu, ops.relu, lambda x: x)):
        y = activation(ops.conv(with_time(y), kernel, padding="same") + bias)
    np.testing.assert_allclose(layer(tf.constant(T), IMAGES), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("filters", [0, -1, 2.5, True])
def test_bottleneck_dynamics_refuses(filters):
    with pytest.raises(ValueError, match="Received"):
        BottleneckDynamics(filters)


@pytest.mark.parametrize("units", [7, (7,), [7]])
def test_dense_dynamics_units(units):
    layer = DenseDynamics(units)
    assert layer.hidden_units == [7]
    layer.build((), (None, 2))
    assert layer.count_params() == (3 * 7 + 7) + (8 * 2 + 2)


@pytest.mark.parametrize("units", [0, [3, -1], [2.5], "ab"])
def test_dense_dynamics_refuses(units):
    with pytest.raises(ValueError, match="Received"):
        DenseDynamics(units)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("norm", "axes"), [("batch", (0, 1, 2)), ("group", None), ("layer", (1, 2, 3)), (None, None)]
)
def test_conv_dynamics(norm, axes, training):
    """Each normalisation by its definition, on the convolutions written out."""
    layer = ConvDynamics(6, (3, 1), norm=norm)
    images = RNG.normal(size=(2, 5, 4, 6)).astype(np.float32)
    layer.build((), images.shape)
    kernels = [c.kernel.numpy() for c in layer.convolutions]
    y = images
    for kernel in kernels:
        y = ops.relu(ops.conv(with_time(tf.convert_to_tensor(y)), kernel, padding="same"))
        y = np.asarray(y, np.float64)
        if norm == "batch" and not training:
            y = y / np.sqrt(1 + 1e-5)  # Nothing seen: mean 0, variance 1.
        elif norm == "group":  # Three groups of two channels.
            y = y.reshape(2, 5, 4, 3, 2)
            y = y - y.mean((1, 2, 4), keepdims=True)
            y = (y / np.sqrt(y.var((1, 2, 4), keepdims=True) + 1e-5)).reshape(images.shape)
        elif norm is not None:
            y = (y - y.mean(axes, keepdims=True)) / np.sqrt(y.var(axes, keepdims=True) + 1e-5)
        y = y.astype(np.float32)
    outputs = layer(tf.constant(T), images, training=training)
    np.testing.assert_allclose(outputs, y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("filters", "groups", "single"),
    [(64, 32, 32), (32, 16, 32), (5, 1, 5), (33, 11, 11), (69, 23, 23), (1, 1, 1)],
)
def test_groups_divide_the_channels(filters, groups, single):
    layer = ConvDynamics(filters, norm="group")
    assert layer.norms[0].groups == groups
    config = layer.get_config()
    assert ConvDynamics.from_config(config).norms[0].groups == groups
    # Versions without the setting saved nothing of it.
    del config["group_size"]
    assert ConvDynamics.from_config(config).norms[0].groups == single


@pytest.mark.parametrize("group_size", [1, 2])
def test_an_average_over_the_image_sees_groups_of_two(group_size):
    layer = ConvDynamics(8, norm="group", group_size=group_size)
    images = RNG.normal(size=(5, 6, 6, 8)).astype(np.float32)
    means = np.mean(layer(tf.constant(T), images), (1, 2))
    assert (np.ptp(means, 0).max() > 0.05) == (group_size == 2)


def test_conv_dynamics_has_two_norms():
    layer = ConvDynamics(2)
    assert all(isinstance(norm, TimeBatchNormalization) for norm in layer.norms)
    assert layer.norms[0] is not layer.norms[1]
    assert ConvDynamics(2, norm=None).norms == [None, None]


@pytest.mark.parametrize("norm", ["instance", "Batch", True, 0])
def test_conv_dynamics_refuses_norms(norm):
    with pytest.raises(ValueError, match="'batch', 'group', 'layer', None.*Received"):
        ConvDynamics(2, norm=norm)


def test_conv_dynamics_refuses_channels():
    with pytest.raises(ValueError, match="as many channels.*Received"):
        ConvDynamics(4)(tf.constant(T), IMAGES)


# Saving


@pytest.mark.parametrize(
    ("make", "y"),
    [
        (lambda: ConvDynamics(3, (2, 3)), IMAGES),
        (lambda: ConvDynamics(3, norm="group"), IMAGES),
        (lambda: ConvDynamics(3, norm="layer"), IMAGES),
        (lambda: ConvDynamics(3, norm=None), IMAGES),
        (lambda: BottleneckDynamics(4, "tanh"), IMAGES),
        (lambda: DenseDynamics([3, 2], "relu"), VECTORS),
        (lambda: ConcatConv2D(3, (1, 3), "tanh", use_bias=False), IMAGES),
        (lambda: ConcatDense(4, "tanh"), VECTORS),
    ],
    ids=["batch", "group", "layer", "none", "bottleneck", "dense", "concat_conv", "concat_dense"],
)
def test_save_and_load(make, y, tmp_path):
    model = keras.Sequential([keras.Input(y.shape[1:]), Augment(0), ODEBlock(make())])
    randomize_positive = [np.abs(RNG.normal(size=w.shape)) * 0.3 for w in model.get_weights()]
    model.set_weights(randomize_positive)
    expected = model(y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    configs = [json.loads(json.dumps(m.get_config())) for m in (loaded, model)]
    assert configs[0] == configs[1]
    np.testing.assert_array_equal(loaded(y), expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: DenseDynamics([3], dtype=dtype),
        lambda dtype: BottleneckDynamics(3, dtype=dtype),
        lambda dtype: ConvDynamics(2, norm=None, dtype=dtype),
        lambda dtype: ConvDynamics(2, norm="group", dtype=dtype),
        lambda dtype: ConvDynamics(2, norm="batch", dtype=dtype),
    ],
    ids=["dense", "bottleneck", "conv", "group", "batch"],
)
def test_the_policy_of_dynamics_is_that_of_their_layers(make, policy):
    """After a round trip too."""
    layer = make(policy)
    again = type(layer).from_config(layer.get_config())
    for dynamics in (layer, again):
        dynamics.build((), (None, 3, 3, 2))
        inner = dynamics._flatten_layers(include_self=False)
        assert {x.dtype_policy.name for x in inner} == {policy}


@pytest.mark.parametrize("norm", ["batch", "group", "layer", None])
@pytest.mark.few(1)
def test_conv_dynamics_train_in_float64(norm):
    block = ODEBlock(
        ConvDynamics(3, norm=norm, dtype="float64"), solvers.RK4(num_steps=2), dtype="float64"
    )
    with tf.GradientTape() as tape:
        outputs = block(IMAGES.astype(np.float64), training=True)
        loss = tf.reduce_sum(outputs**2)
    assert outputs.dtype == tf.float64
    gradients = tape.gradient(loss, block.trainable_variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
