"""Settings of all tests."""

import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import keras
import pytest
from tensorflow.python.framework import ops

import tfnode  # noqa: F401  Registers the layers.


@pytest.fixture(autouse=True)
def _fresh_keras():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def _no_graph_outlives_its_module():
    """Forget the gradients that TensorFlow registers for each trace of a `tf.custom_gradient`.

    They are kept for ever, and with each of them its whole graph: gigabytes over the suite.
    """
    registered = ops.gradient_registry._registry
    before = set(registered)
    yield
    for name in registered.keys() - before:
        if name.startswith("CustomGradient-"):
            del registered[name]
    keras.utils.clear_session(free_memory=False)
    gc.collect()
