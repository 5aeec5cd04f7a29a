"""Keras's own `model.export` of models with an `ODEBlock`: files that run, or an error."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode.serving.runtimes import RUNTIMES

pytestmark = pytest.mark.few(2)

SEQUENCE = {"times": (0.0, 0.4, 1.0), "return_sequences": True}
FIXED = {"solver": "rk4", "num_steps": 3}
RIGHT = {
    "default": {},
    "fixed steps": FIXED,
    "dopri5": {"solver": "dopri5"},
    "dopri8 by fixed steps": {"solver": "dopri8", "num_steps": 2, **SEQUENCE},
    "fixed steps, sequences": {**FIXED, **SEQUENCE, "gradient": "adjoint"},
}
X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def _model(**kwargs):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    outputs = tfnode.ODEBlock(tfnode.layers.DenseDynamics(8), **kwargs)(inputs)
    return _called(keras.Model(inputs, keras.layers.Dense(2)(outputs)))


def _called(model):
    """Keras exports models alone that were called."""
    model(X)
    return model


def _onnx(model, folder):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    return RUNTIMES["onnx"](folder / "model.onnx")


def _litert(model, folder):
    pytest.importorskip("ai_edge_litert.interpreter")
    try:
        model.export(folder / "model.tflite", format="litert", verbose=False)
    except ValueError as error:
        if "Unrecognized format" in str(error):
            pytest.skip("this Keras has no LiteRT")
        raise
    return RUNTIMES["tflite"](folder / "model.tflite")


EXPORTS = {"onnx": _onnx, "litert": _litert}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("file_format", EXPORTS)
def test_the_file_predicts_what_the_model_does(tmp_path, file_format, name):
    model = _model(**RIGHT[name])
    predict = EXPORTS[file_format](model, tmp_path)
    for size in (4, 1):
        # An adaptive solver takes the steps of the whole batch.
        expected = tf.function(model)(X[:size]).numpy()
        np.testing.assert_allclose(predict(X[:size]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "file_format, kwargs, names",
    [
        ("onnx", {"solver": "dopri8"}, ("dopri8", "tf_saved_model", "dopri5")),
        ("onnx", {"solver": "dopri5", **SEQUENCE}, ("return_sequences", "rk4")),
        ("litert", {"solver": "dopri5", **SEQUENCE}, ("return_sequences", "rk4")),
    ],
)
def test_refused(tmp_path, file_format, kwargs, names):
    """A solver that the format has no operations for: no file that does not load."""
    with pytest.raises(ValueError) as error:
        EXPORTS[file_format](_model(**kwargs), tmp_path)
    assert all(name in str(error.value) for name in names)
    assert not list(tmp_path.iterdir())


def test_another_layer_that_solves_is_refused(tmp_path):
    @keras.saving.register_keras_serializable("test")
    class Decay(keras.layers.Layer):
        def call(self, x):
            return tfnode.odeint(lambda t, y: -y, x, [0.0, 1.0])[-1]

    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match="tf_saved_model"):
        _onnx(_called(keras.Model(inputs, Decay()(inputs))), tmp_path)


def test_a_saved_model_is_what_it_was(tmp_path):
    model = _model(solver="heun21", **SEQUENCE)
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found = loaded.serve(X)
    np.testing.assert_allclose(found, tf.function(model)(X), rtol=1e-6, atol=1e-6)
