"""Where Keras's own `model.export` traces a model."""

import sys

import tensorflow as tf

# Its converters, each with the argument `format` that stands for it.
_CONVERTERS = {"keras.src.export.onnx": "onnx", "keras.src.export.litert": "litert"}


def converter() -> str | None:
    """Return for which format Keras traces the model: "onnx", "litert", or `None` for no such.

    Keras tells its layers nothing of an export, but it is among their callers.
    """
    if tf.executing_eagerly():
        return None
    frame = sys._getframe()
    while frame is not None:
        found = _CONVERTERS.get(frame.f_globals.get("__name__", ""))
        if found is not None:
            return found
        frame = frame.f_back
    return None
