"""`SaveBest`: only improvements, and never half a file."""

import math

import keras
import numpy as np
import pytest

from tfnode.callbacks import SaveBest


class _Model:
    """Saves how often it was saved."""

    def __init__(self):
        self.saves = 0

    def save(self, path):
        self.saves += 1
        path.write_text(str(self.saves))


def _callback(path, **arguments):
    callback = SaveBest(path, **arguments)
    callback.set_model(_Model())
    return callback


def _saves(callback, values, monitor="val_accuracy"):
    """After which of the epochs a file was written."""
    saved = []
    for epoch, value in enumerate(values):
        before = callback.model.saves
        callback.on_epoch_end(epoch, {monitor: value, "loss": 1.0})
        saved.append(callback.model.saves > before)
    return saved


def test_only_improvements(tmp_path):
    callback = _callback(tmp_path / "best.keras")
    values = [0.5, 0.4, 0.5, 0.6, math.nan, 0.59, 0.7]
    assert _saves(callback, values) == [True, False, False, True, False, False, True]
    assert callback.best == 0.7
    assert (tmp_path / "best.keras").read_text() == "3"
    assert [p.name for p in tmp_path.iterdir()] == ["best.keras"]


def test_a_first_nan_is_no_best(tmp_path):
    callback = _callback(tmp_path / "best.keras")
    assert _saves(callback, [math.nan, 0.0]) == [False, True]


def test_value_to_beat(tmp_path):
    callback = _callback(tmp_path / "best.keras", best=0.9)
    assert _saves(callback, [0.8, 0.9, 0.95]) == [False, False, True]


def test_other_metric(tmp_path):
    callback = _callback(tmp_path / "best.keras", monitor="auc")
    assert _saves(callback, [0.1, 0.2], monitor="auc") == [True, True]


def test_less_is_better(tmp_path):
    callback = _callback(tmp_path / "best.keras", monitor="rmse", mode="min")
    assert _saves(callback, [0.5, math.nan, 0.6, 0.4], monitor="rmse") == [True, False, False, True]


def test_unknown_mode(tmp_path):
    with pytest.raises(ValueError, match="Received: mode='auto'"):
        SaveBest(tmp_path / "best.keras", mode="auto")


def test_missing_metric(tmp_path):
    callback = _callback(tmp_path / "best.keras")
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.on_epoch_end(1, None)
    assert callback.model.saves == 0
    assert list(tmp_path.iterdir()) == []


def test_interrupted_save_leaves_the_old_file(tmp_path):
    callback = _callback(tmp_path / "best.keras")
    callback.on_epoch_end(0, {"val_accuracy": 0.5})

    def save(path):
        path.write_text("half")
        raise KeyboardInterrupt

    callback.model.save = save
    with pytest.raises(KeyboardInterrupt):
        callback.on_epoch_end(1, {"val_accuracy": 0.6})
    assert (tmp_path / "best.keras").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["best.keras"]


def test_a_real_model_loads(tmp_path):
    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    path = tmp_path / "best.keras"
    callback = SaveBest(path, monitor="mae")
    model.fit(x, x, epochs=1, callbacks=[callback], verbose=0)
    expected = model.predict(x, verbose=0)
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_allclose(keras.models.load_model(path).predict(x, verbose=0), expected)
