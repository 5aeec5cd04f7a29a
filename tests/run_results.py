"""What tests of runs share: a small model, files that are whole, and runs that are the same."""

import csv
import json
import zipfile

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from tfnode.files import history, whole
from tfnode.runs import contents, files

# The least that makes a folder a run directory, in its `config.json`.
RECORD = {"settings": {}, "dataset": {"name": "digits"}, "versions": {"tfnode": "0.1.0"}}


def small_model(scale=1.0):
    """A compiled classifier of images that trains in no time, with inputs times `scale`."""
    layers = [keras.layers.Rescaling(scale / 255), keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


def results(directory):
    """All that a run leaves but times and memory, as a dict of comparable values."""
    with open(directory / contents.HISTORY, newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    metrics = files.read_json(directory / contents.METRICS)
    del metrics["median_seconds_per_epoch"], metrics["final"]["seconds"]
    del metrics["peak_memory_mib"]
    found = {"history": rows, "metrics": metrics, "events": scalars(directory)}
    for name in (contents.MODEL, contents.BEST):
        found[name] = keras.models.load_model(directory / name).get_weights()
    with np.load(directory / contents.CHECKPOINTS / contents.LATEST) as file:
        found["checkpoint"] = [file[name] for name in file.files if name != "layout"]
    return found


def scalars(directory):
    """What TensorBoard would show: `(folder, tag, step)` to the values there."""
    found = {}
    for path in sorted(directory.rglob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name != "scalars":
                    continue
                key = (path.parent.name, value.tag, event.step)
                found.setdefault(key, []).append(float(tf.make_ndarray(value.tensor)))
    return found


def assert_same(directory, expected):
    """The run in a folder left the `results` of another, to the bit, and no more."""
    found = results(directory)
    assert found.keys() == expected.keys()
    for name in ("history", "metrics", "events"):
        assert found[name] == expected[name], name
    for name in (contents.MODEL, contents.BEST, "checkpoint"):
        assert len(found[name]) == len(expected[name])
        for a, b in zip(found[name], expected[name]):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert not list(directory.rglob(f"{whole.TEMPORARY}*"))


def assert_whole(directory):
    """Every file of a run that has its name is whole, at any moment."""
    for path in directory.rglob("*"):
        if path.name.startswith(whole.TEMPORARY) or path.is_dir():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            epochs = [row["epoch"] for row in history.read_history(path)]
            assert epochs == list(range(1, len(epochs) + 1))
        elif path.suffix in (".keras", ".npz"):
            with zipfile.ZipFile(path) as file:
                assert file.testzip() is None
        elif path.suffix == ".png":
            Image.open(path).load()
