"""`resnet18`: the baseline."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from tfnode.layers import FusedBatchNormalization

STEMS = ("imagenet", "small")


def resnet18(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    stem: str = "imagenet",
) -> keras.Model:
    """Return ResNet-18 with logits out; 11.2 million parameters for 28x28x1.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        stem: `"imagenet"`, the original 7x7 convolution of stride 2 with max pooling, or
            `"small"`, one 3x3 convolution of stride 1, usual for small images.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If the stem is unknown.

    Reference: He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition* (2016),
    table 1.
    """
    if stem not in STEMS:
        raise ValueError(f"`stem` must be one of {STEMS}. Received: stem={stem!r}")
    inputs = keras.Input(input_shape)
    if stem == "imagenet":
        x = layers.ZeroPadding2D(3)(inputs)
        x = _convolution(x, 64, 7, strides=2, padding="valid")  # (14, 14, 64)
        x = layers.ReLU()(x)
        x = layers.ZeroPadding2D(1)(x)  # The state is not negative, so zeros change no maximum.
        x = layers.MaxPooling2D(3, strides=2)(x)  # (7, 7, 64)
    else:
        x = layers.ReLU()(_convolution(inputs, 64, 3))  # (28, 28, 64)
    for stage, filters in enumerate((64, 128, 256, 512)):
        x = _basic_block(x, filters, strides=1 if stage == 0 else 2)
        x = _basic_block(x, filters, strides=1)
    x = layers.GlobalAveragePooling2D()(x)  # (512,)
    outputs = layers.Dense(num_classes, dtype="float32")(x)
    return keras.Model(inputs, outputs, name="resnet18")


def _convolution(
    x: Any, filters: int, kernel_size: int | Sequence[int], strides: int = 1, padding: str = "same"
) -> Any:
    """Apply a convolution without bias, then batch normalisation, with the original's settings."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    return FusedBatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _basic_block(x: Any, filters: int, strides: int) -> Any:
    """Apply two 3x3 convolutions and a shortcut, projected where the shape changes."""
    shortcut = x if strides == 1 else _convolution(x, filters, 1, strides=strides)
    y = layers.ReLU()(_convolution(x, filters, 3, strides=strides))
    y = _convolution(y, filters, 3)
    return layers.ReLU()(layers.Add()([y, shortcut]))
