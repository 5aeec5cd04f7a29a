"""`CurveExport`: rows and pictures of every epoch."""

import keras
import numpy as np
import pytest
from PIL import Image

from tfnode import callbacks
from tfnode.files import history
from tfnode.files.whole import FileError

X = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
Y = (X[:, 0] > 0).astype(np.uint8)


def _model(metrics=("accuracy",)):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.25), loss, metrics=list(metrics), run_eagerly=True)
    return model


def _fit(model, directory, **options):
    fitted = model.fit(
        X, Y, callbacks=[callbacks.CurveExport(directory)], verbose=0, batch_size=8, **options
    )
    return fitted, history.read_history(directory / "history.csv")


def test_rows_and_picture(tmp_path):
    history, rows = _fit(_model(), tmp_path / "new" / "run", epochs=3, validation_data=(X, Y))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [row[name] for row in rows] == pytest.approx(history.history[name])
    for row in rows:
        assert row["learning_rate"] == 0.25
        assert row["seconds"] >= 0
        assert row["nfe_forward"] is row["nfe_backward"] is None
    assert sorted(p.name for p in (tmp_path / "new" / "run").iterdir()) == [
        "curves.png",
        "history.csv",
    ]
    with Image.open(tmp_path / "new" / "run" / "curves.png") as image:
        image.load()
        assert image.format == "PNG"


def test_epochs_are_whole_numbers_in_the_file(tmp_path):
    _fit(_model(), tmp_path, epochs=1)
    _fit(_model(), tmp_path, epochs=2, initial_epoch=1)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2"]


def test_written_after_every_epoch(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rows = history.read_history(tmp_path / "history.csv")
            seen.append((len(rows), (tmp_path / "curves.png").stat().st_size > 0))

    _model().fit(X, Y, epochs=3, callbacks=[callbacks.CurveExport(tmp_path), Look()], verbose=0)
    assert seen == [(1, True), (2, True), (3, True)]


def test_columns_that_the_logs_lack_are_empty(tmp_path):
    _, rows = _fit(_model(metrics=()), tmp_path, epochs=1)
    assert rows[0]["loss"] > 0
    assert rows[0]["accuracy"] is rows[0]["val_loss"] is rows[0]["val_accuracy"] is None


def test_another_score(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[keras.metrics.RootMeanSquaredError("rmse")])
    export = callbacks.CurveExport(tmp_path, score="rmse")
    model.fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=[export], verbose=0)
    rows = history.read_history(tmp_path / "history.csv")
    assert [row["val_rmse"] for row in rows] == pytest.approx(model.history.history["val_rmse"])
    with pytest.raises(ValueError, match="Received: score='mae'"):
        callbacks.CurveExport(tmp_path, score="mae")


def test_continuing_keeps_earlier_rows(tmp_path):
    model = _model()
    _, first = _fit(model, tmp_path, epochs=2)
    _, both = _fit(model, tmp_path, epochs=4, initial_epoch=2)
    assert both[:2] == first
    assert [row["epoch"] for row in both] == [1, 2, 3, 4]


def test_continuing_earlier_replaces_later_rows(tmp_path):
    model = _model()
    _, first = _fit(model, tmp_path, epochs=3)
    _, second = _fit(model, tmp_path, epochs=2, initial_epoch=1)
    assert second[:1] == first[:1]
    assert [row["epoch"] for row in second] == [1, 2]
    assert second[1] != first[1]


def test_starting_anew_keeps_nothing(tmp_path):
    model = _model()
    _fit(model, tmp_path, epochs=3)
    _, rows = _fit(model, tmp_path, epochs=1)
    assert [row["epoch"] for row in rows] == [1]


def test_continuing_without_a_file(tmp_path):
    _, rows = _fit(_model(), tmp_path, epochs=3, initial_epoch=2)
    assert [row["epoch"] for row in rows] == [3]


def test_continuing_from_a_bad_file_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("a,b\n")
    with pytest.raises(FileError):
        _fit(_model(), tmp_path, epochs=3, initial_epoch=2)
    assert (tmp_path / "history.csv").read_text() == "a,b\n"


def test_learning_rate_of_a_schedule(tmp_path):
    model = _model()
    model.optimizer.learning_rate = 0.5
    _, rows = _fit(model, tmp_path, epochs=1)
    assert rows[0]["learning_rate"] == 0.5
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 2, 0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(schedule), loss)
    _, rows = _fit(model, tmp_path, epochs=2)
    # Of the last step of each epoch, which has two.
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.5**0.5, 0.5**1.5])


@pytest.mark.parametrize("title", [None, "ode, digits, seed 3"])
def test_title(tmp_path, monkeypatch, title):
    drawn = []
    monkeypatch.setattr(
        callbacks.curve_export.plots, "save_history", lambda *args: drawn.append(args)
    )
    export = callbacks.CurveExport(tmp_path / "mine", title=title)
    _model().fit(X, Y, callbacks=[export], verbose=0)
    assert drawn[0][1:] == (tmp_path / "mine" / "curves.png", title or "mine")
