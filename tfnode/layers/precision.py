"""The dtypes in which a layer computes."""

import contextlib
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope


def autocast(layer: keras.layers.Layer) -> contextlib.AbstractContextManager:
    """Return Keras's scope for a layer whose variables have another dtype than it computes in."""
    mixed = layer.compute_dtype != layer.variable_dtype
    return AutocastScope(layer.compute_dtype) if mixed else contextlib.nullcontext()


def cast(inputs: Any, dtype: str) -> Any:
    """Return a nest of tensors with those of floats in another dtype; `None` stays."""

    def converted(x: Any) -> Any:
        if x is None:
            return x
        x = tf.convert_to_tensor(x)
        return tf.cast(x, dtype) if x.dtype.is_floating else x

    return tf.nest.map_structure(converted, inputs)
