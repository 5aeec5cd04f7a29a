"""The formats of an artefact: how each is written, and how it is run to check it."""

import importlib.util
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfnode.models.series_inputs import TIMES
from tfnode.serving import trained
from tfnode.serving.portable import portable

Predict = Callable[[Any], np.ndarray]


def difference(model: keras.Model, file_format: str, path: pathlib.Path) -> float | None:
    """Return the largest difference of a prediction, for two sizes of the batch.

    It is relative to the largest prediction where that is above 1. NaN counts as infinite.
    `None` says that no runtime for the format is installed.
    """
    predict = RUNTIMES[file_format](path)
    if predict is None:
        return None
    original = tf.function(lambda *x: model(_packed(x), training=False))
    names = [x.name for x in model.inputs]
    generator = np.random.default_rng(0)
    worst = 0.0
    for size in (1, 3):
        x = _examples(model, size, generator)
        expected = original(*x).numpy()
        found = predict(x[0] if len(x) == 1 else dict(zip(names, x)))
        if expected.shape != found.shape:
            return np.inf
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        error = np.abs(found - expected).max(initial=0.0) / scale
        worst = max(worst, float(error) if np.isfinite(error) else np.inf)
    return worst


def _examples(model: keras.Model, size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Return random inputs of a model, in their order."""
    examples = []
    for given in model.inputs:
        shape = [size, *(n or 1 for n in given.shape[1:])]
        x = generator.normal(size=shape)
        if trained.takes_pixels(model):
            x = generator.uniform(0, 255, size=shape)
        elif given.name == TIMES:
            x = np.sort(x, 1)
        examples.append(x.astype(given.dtype))
    return examples


def _packed(x: Sequence[Any]) -> Any:
    """Return inputs as a model takes them."""
    return x[0] if len(x) == 1 else tuple(x)


def _signature(model: keras.Model) -> list[Any]:
    """Return the inputs, an only one under a name that does not depend on models built before."""
    specs = [
        keras.InputSpec(
            shape=(None, *x.shape[1:]),
            dtype=x.dtype,
            name="inputs" if len(model.inputs) == 1 else x.name,
        )
        for x in model.inputs
    ]
    return [_packed(specs)]


def _write_saved_model(model: keras.Model, path: pathlib.Path) -> None:
    model.export(path, verbose=False, input_signature=_signature(model))


def _write_onnx(model: keras.Model, path: pathlib.Path) -> None:
    model = portable(model)
    model.export(path, format="onnx", verbose=False, input_signature=_signature(model))


def _write_tflite(model: keras.Model, path: pathlib.Path) -> None:
    # Only TensorFlow Lite's own operations, so that every runtime can run them.
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(portable(model), pathlib.Path(folder))
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _saved_model(path: pathlib.Path) -> Predict | None:
    function = tf.saved_model.load(str(path)).signatures["serving_default"]

    def predict(x: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
        given = x if isinstance(x, dict) else {"inputs": x}
        (y,) = function(**{name: tf.constant(value) for name, value in given.items()}).values()
        return y.numpy()

    return predict


def _onnx(path: pathlib.Path) -> Predict | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]


def _tflite(path: pathlib.Path) -> Predict | None:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        # TensorFlow still has one, which it is about to drop in favour of the other.
        Interpreter = getattr(tf.lite, "Interpreter", None)
    if Interpreter is None:
        return None
    interpreter = Interpreter(str(path))
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(x: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return predict


WRITERS = {"saved_model": _write_saved_model, "onnx": _write_onnx, "tflite": _write_tflite}
RUNTIMES = {"saved_model": _saved_model, "onnx": _onnx, "tflite": _tflite}
