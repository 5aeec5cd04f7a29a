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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as slow all but some combinations of the parametrised tests marked `few`."""
    combinations = {}
    for item in items:
        few = item.get_closest_marker("few")
        if few and item.get_closest_marker("slow") is None:
            name = getattr(item, "originalname", item.name)
            combinations.setdefault((item.path, name, few.args[0]), []).append(item)
    for (_, _, few), found in combinations.items():
        # The first one, the last one and those evenly between.
        last = len(found) - 1
        kept = {round(last * i / max(few - 1, 1)) for i in range(few)} if last >= few else None
        for i, item in enumerate(found):
            if kept is not None and i not in kept:
                item.add_marker(pytest.mark.slow)


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
