"""Experiments with classifiers of measured time series, from the command line to the report."""

import command
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfnode import classify, data
from tfnode.files import history
from tfnode.lab.settings import SeriesSettings, Settings, SpiralsSettings
from tfnode.runs import contents, files
from tfnode.runs.report import write_report
from tfnode.serving.export import export

pytestmark = pytest.mark.few(2)

SLOW = ("ode_rnn", "neural_cde", "gru", "cnn1d")


@pytest.fixture(
    scope="module",
    params=["linear_series", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def run(request, tmp_path_factory):
    """The folder of a run of two epochs, of which the second was resumed."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    arguments = [f"--model={request.param}", f"--log_dir={folder}", "--data_dir=/nowhere"]
    settings = ["--dataset=japanese_vowels", "--config.data.missing=0.5", "--batch_size=90"]
    settings += ["--config.schedule=constant", "--config.validation=0.2"]
    assert command.run([*arguments, *settings, "--epochs=1"], main=True)[:2] == (0, "")
    status, message, _ = command.run([*arguments, "--epochs=2", "--resume"], main=True)
    assert (status, message) == (0, "")
    return folder


def test_files(run):
    names = {path.name for path in run.iterdir()}
    exports = {path.split("/")[0] for path in contents.EXPORTS.values()}
    assert names >= {*contents.CONTENTS} - exports - {contents.PREDICTIONS}
    assert contents.PREDICTIONS not in names  # Those are pictures of images.
    rows = history.read_history(run / contents.HISTORY)
    assert tuple(rows[0]) == history.history_columns("accuracy")
    assert [row["epoch"] for row in rows] == [1, 2]
    metrics = files.read_json(run / contents.METRICS)
    assert metrics["dataset"] == "japanese_vowels"
    assert metrics["constant_score"] == pytest.approx(31 / 370)
    record = files.read_json(run / contents.CONFIG)
    assert record["settings"]["data"] == {"missing": 0.5}
    sizes = [record["dataset"][f"{part}_samples"] for part in ("training", "validation", "test")]
    assert sizes == [216, 54, 370]


def test_the_saved_model_has_the_accuracy_of_the_metrics(run):
    model = keras.models.load_model(run / contents.MODEL)
    dataset = data.load("japanese_vowels", missing=0.5)
    logits = model.predict(dataset.inputs(dataset.x_test), verbose=0)
    accuracy = (logits.argmax(1) == dataset.y_test).mean()
    metrics = files.read_json(run / contents.METRICS)
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy)


def test_evaluations_are_counted(run):
    settings = files.read_json(run / contents.CONFIG)["settings"]["model"]
    nfe = 4 * 29 if "solver" in settings else None  # A step of rk4 for each of 29 points.
    for row in history.read_history(run / contents.HISTORY):
        assert (row["nfe_forward"], row["nfe_backward"]) == (nfe, nfe)


def test_saved_model(run, tmp_path):
    path, difference = export(run, "saved_model", tmp_path / "1")
    assert difference < 1e-5
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    shapes = {k: x.shape.as_list() for k, x in signature.structured_input_signature[1].items()}
    assert shapes == {"values": [None, 29, 12], "times": [None, 29]}


def test_report(run, tmp_path):
    write_report([run], tmp_path / "out")
    assert "test accuracy" in (tmp_path / "out" / "table.md").read_text()


def test_it_classifies_no_image(run, tmp_path, capsys):
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "digit.png")
    assert classify.main([str(run), str(tmp_path / "digit.png")]) == 1
    message = capsys.readouterr().err
    assert "Expected a classifier of grey images" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--model=gru", "--dataset=digits"], ("gru", "digits", "japanese_vowels")),
        (["--model=gru", "--dataset=spirals"], ("gru", "spirals", "rnn_forecaster")),
        (["--model=rnn", "--dataset=japanese_vowels"], ("rnn_forecaster", "basic_motions")),
        (["--model=resnet", "--dataset=basic_motions"], ("resnet18", "basic_motions")),
        (["--model=gru", "--config.data.points=30"], ("data.points",)),
        (["--model=gru", "--config.data.missing=1"], ("data.missing", "0.9")),
        (["--model=gru", "--config.augmentation.shift=1"], ("augmentation.shift",)),
        (["--model=rnn", "--config.validation=0.2"], ("validation",)),
    ],
)
def test_settings_that_do_not_fit(arguments, names):
    status, message, _ = command.run(arguments)
    assert status == 2
    assert all(name in message for name in names)
    assert message.count("\n") == 1


def test_settings_of_data_are_those_of_the_model():
    settings = Settings.read(
        {"name": "x", "model": {"name": "gru"}, "data": {"missing": 0.3}, "validation": 0.2}
    )
    assert settings.data == SeriesSettings(missing=0.3)
    assert (settings.kind, settings.chosen_data) == ("series", "japanese_vowels")
    assert settings.data_options == {"missing": 0.3}
    forecaster = {"name": "x", "model": {"name": "rnn_forecaster"}}
    assert Settings.read(forecaster).data_options == {"points": 100, "noise": 0.3}
    settings = Settings(**forecaster, data={"points": 30})
    assert settings.data == SpiralsSettings(points=30)
    settings.data = SeriesSettings()
    with pytest.raises(ValueError, match="rnn_forecaster has no such settings of data"):
        settings.check()
    with pytest.raises(ValueError, match="Expected data of a model of time series"):
        Settings(name="x", model={"name": "odenet"}, data={"points": 30})
