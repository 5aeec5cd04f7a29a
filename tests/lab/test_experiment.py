"""An experiment from a config to a run directory, on a few digits."""

import json
import math
import re
import types
import warnings

import keras
import numpy as np
import pytest
from PIL import Image
from run_results import RECORD, small_model

import tfnode
from tfnode import callbacks, data
from tfnode.files import history
from tfnode.lab import build, config_file, epoch_lines, experiment, pictures, run, summary
from tfnode.lab.config_file import override
from tfnode.lab.settings import Settings
from tfnode.runs import contents, files, report
from tfnode.runs.errors import RunError, TrainingError

pytestmark = pytest.mark.few(2)

FILES = {
    ".lock",
    "checkpoints",
    "config.json",
    "history.csv",
    "curves.png",
    "predictions.png",
    "confusion.png",
    "metrics.json",
    "model.keras",
    "best.keras",
    "train",
    "validation",
}


def _config(**changes):
    settings = {
        "name": "tiny",
        "dataset": "digits",
        "epochs": 2,
        "batch_size": 48,
        "learning_rate": 1e-3,
        "model": {"name": "odenet", "filters": 4},
    }
    return Settings.read(override(settings, changes))


def few_digits(training, testing):
    """A few of the digits, as `tfnode.data.load` would return them."""
    digits = data.load("digits")
    return digits._replace(
        source="a few of them",
        x_train=digits.x_train[:training],
        y_train=digits.y_train[:training],
        x_test=digits.x_test[:testing],
        y_test=digits.y_test[:testing],
    )


@pytest.fixture(scope="module")
def few():
    return few_digits(128, 64)


def _run(few, *arguments, **options):
    """Runs an experiment on the few digits; returns its metrics and its model."""
    made = []

    def record(config, dataset):
        made.append(compiled_model(config, dataset))
        return made[0]

    compiled_model = run.compiled_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda name, data_dir=None: few)
        patch.setattr(run, "compiled_model", record)
        metrics = experiment.run(*arguments, **options)
    return types.SimpleNamespace(metrics=metrics, model=made[0])


@pytest.fixture(scope="module")
def done(few, tmp_path_factory):
    """A finished run of two epochs."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    result = _run(few, _config(), log_dir=directory)
    result.directory = directory
    # Before the fixture of every test clears Keras's state.
    result.predictions = result.model.predict(_images(few), verbose=0)
    return result


def _images(few):
    return few.x_test.astype(np.float32)  # The model normalises them.


def test_files_of_the_run(done):
    names = {p.name for p in done.directory.iterdir() if "tfevents" not in p.name}
    assert names == FILES
    exports = {path.split("/")[0] for path in contents.EXPORTS.values()}
    assert set(contents.CONTENTS) - exports == FILES - {".lock"}
    for name in ("train", "validation"):
        assert list((done.directory / name).rglob("events.out.tfevents.*"))
    with Image.open(done.directory / "curves.png") as image:
        assert image.format == "PNG"
        assert image.width > image.height


def test_history(done):
    rows = history.read_history(done.directory / "history.csv")
    assert tuple(rows[0]) == (
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
        "nfe_forward",
        "nfe_backward",
    )
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert None not in row.values()
        assert row["learning_rate"] == pytest.approx(1e-3)
        assert row["nfe_forward"] == row["nfe_backward"] == 4
        assert 0 <= row["accuracy"] <= 1
        assert row["seconds"] > 0


def test_config(done, few):
    record = json.loads((done.directory / "config.json").read_text())
    assert record["settings"] == _config().to_dict()
    assert record["dataset"] == {
        "name": "digits",
        "source": "a few of them",
        "training_samples": 128,
        "test_samples": 64,
        "sha256": record["dataset"]["sha256"],
    }
    assert re.fullmatch("[0-9a-f]{64}", record["dataset"]["sha256"])
    assert record["device"].split()[0] in ("CPU", "GPU")
    assert record["inputs"] == "pixels"
    assert record["versions"]["keras"] == keras.__version__
    assert record["versions"]["tfnode"] == tfnode.__version__
    assert {"python", "tensorflow", "numpy", "tensorflow-probability"} <= set(record["versions"])
    assert record["git_commit"] is None or re.match("[0-9a-f]{40}", record["git_commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["started"])


def test_the_folder_of_the_data_is_written_down(few, tmp_path, monkeypatch):
    """So that a resumed run finds it, from any other folder."""
    _stub(monkeypatch, 1.0)
    monkeypatch.chdir(tmp_path)
    mnist = few._replace(name="mnist")
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: mnist)
    one = run.Run(_config(dataset="mnist"), "CPU")
    for folder, expected in ((None, None), ("here", str(tmp_path / "here"))):
        one.load(folder)
        one.build()
        one.step_backup = callbacks.StepBackup("none")
        assert summary.record(one, None)["dataset"].get("data_dir") == expected


def test_metrics(done):
    metrics = json.loads((done.directory / "metrics.json").read_text())
    assert metrics == done.metrics
    rows = history.read_history(done.directory / "history.csv")
    assert metrics["name"] == "tiny"
    assert metrics["dataset"] == "digits"
    assert metrics["epochs"] == 2
    assert metrics["interrupted"] is metrics["diverged"] is False
    assert metrics["final"] == rows[-1]
    assert metrics["best"]["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    assert metrics["parameters"] == done.model.count_params()
    assert metrics["median_seconds_per_epoch"] == rows[1]["seconds"]


def test_settings_within_settings_reach_the_model(few):
    weights = {"kineticenergy": 0.5, "jacobianfrobenius": 0.25}
    config = _config(**{"model.regularizers": weights})
    model = run.compiled_model(config, few)
    (block,) = [layer for layer in model.layers if isinstance(layer, tfnode.ODEBlock)]
    assert sorted(x.weight for x in block.regularizers) == [0.25, 0.5]


@pytest.mark.slow
def test_averages_of_weights_are_what_is_judged_and_saved(few, tmp_path):
    """With running averages of batch normalisation that belong to them."""
    config = _config(epochs=1, learning_rate=1e-2, ema=0.9, validation=0.25)
    metrics = _run(few, config, log_dir=tmp_path / "run").metrics
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    sizes = [record["dataset"][f"{x}_samples"] for x in ("training", "validation", "test")]
    assert sizes == [96, 32, 64]
    model = keras.models.load_model(tmp_path / "run" / "model.keras")

    def judge(dataset):
        dataset = build.Pixels(*dataset)
        return model.evaluate(dataset.test_batches(48), verbose=0, return_dict=True)

    for dataset, expected in (
        (few, metrics["test"]),
        (few.hold_out(0.25), {k: metrics["final"][f"val_{k}"] for k in ("loss", "accuracy")}),
    ):
        found = judge(dataset)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["accuracy"] == pytest.approx(expected["accuracy"])
    # Those of the last step are others.
    with np.load(tmp_path / "run" / contents.CHECKPOINTS / contents.LATEST) as file:
        last = [file[str(i)] for i in range(len(model.weights))]
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(last, model.get_weights()))


def test_model_loads_and_predicts_the_same(done, few):
    model = keras.models.load_model(done.directory / "model.keras")
    np.testing.assert_allclose(
        model.predict(_images(few), verbose=0), done.predictions, rtol=1e-5, atol=1e-5
    )
    logits = done.predictions
    accuracy = (logits.argmax(1) == few.y_test).mean()
    assert accuracy == pytest.approx(done.metrics["final"]["val_accuracy"], abs=1e-6)


def test_a_run_of_an_older_version_goes_on_with_normalised_images(few, tmp_path, done):
    """Its model has no layer for that, and its record does not say that it has."""
    record = json.loads((done.directory / "config.json").read_text())
    del record["inputs"]
    record["settings"]["epochs"] = 1
    files.write_json(tmp_path / "config.json", record)
    for path, layers in ((tmp_path, 0), (None, 1)):
        one = run.Run(_config(), "CPU")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(data, "load", lambda name, data_dir=None: few)
            patch.setattr(run, "record_to_resume", lambda path, settings: record if path else None)
            one.load(resume=path)
        one.build()
        assert sum(layer.name == "from_pixels" for layer in one.model.layers) == layers
        (x, _), *_ = one.dataset.test_batches(48).as_numpy_iterator()
        assert (x.max() > 200) == bool(layers)


def test_pixels_are_normalised_as_before(few):
    """With the same weights the outputs are those for normalised images."""
    model = build.compiled_model(_config(), build.Pixels(*few))
    old = build.compiled_model(_config(), few)
    old.set_weights(model.get_weights())
    expected = old.predict(np.asarray(few.inputs(few.x_test)), verbose=0)
    np.testing.assert_allclose(model.predict(few.x_test, verbose=0), expected, rtol=1e-4, atol=1e-5)
    for name in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(name)
        (layer,) = [
            layer
            for layer in build.compiled_model(_config(), build.Pixels(*few)).layers
            if layer.name == "from_pixels"
        ]
        assert layer.compute_dtype == "float32"


def test_pictures_of_the_end():
    """Counts are right, and wrong ones come first."""
    labels = np.array([0, 0, 1, 2])
    logits = np.eye(3)[[0, 1, 1, 2]]
    figure = pictures.confusion(labels, logits)
    found = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in figure.axes[0].texts}
    assert found == {(0, 0): "1", (0, 1): "1", (1, 1): "1", (2, 2): "1"}
    figure = pictures.predictions(np.zeros((4, 2, 2, 1), np.uint8), labels, logits)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["1, is 0", "0", "1", "2"]
    assert "1 of 4 are wrong" in figure._suptitle.get_text()


def test_one_line_an_epoch(few, capsys):
    """The costs of the solver are in it where they vary."""
    logs = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.5}
    logs |= {"nfe_forward": 20.25, "nfe_backward": 18.0}
    for solver, more in (("rk4", ""), ("dopri5", "; NFE 20.2 and 18.0")):
        lines = epoch_lines.EpochLines("accuracy")
        lines.set_model(run.compiled_model(_config(**{"model.solver": solver}), few))
        lines.set_params({"epochs": 3, "steps": 2})
        lines.on_epoch_begin(1)
        lines.on_train_batch_end(0, logs)
        lines.on_epoch_end(1, logs)
        expected = (
            "epoch 2/3: loss 0.5000, accuracy 75.00 %; test loss 0.2500, test accuracy 50.00 %"
        )
        assert capsys.readouterr().out == f"{expected}; 0 s{more}\n"


def test_a_file_has_a_line_a_minute_within_an_epoch(few, capsys, monkeypatch):
    lines = epoch_lines.EpochLines("accuracy")
    lines.set_params({"epochs": 3, "steps": 9})
    times = iter((0.0, 59.0, 61.0, 100.0, 122.0))
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: next(times))
    lines.on_epoch_begin(0)
    for batch in range(4):
        lines.on_train_batch_end(batch, {"loss": 0.5, "accuracy": 0.75})
    shown = [f"epoch 1/3: step {s}/9, loss 0.5000, accuracy 75.00 %" for s in (2, 4)]
    assert capsys.readouterr().out.splitlines() == shown


def test_best_model_has_the_best_accuracy(done, few):
    model = keras.models.load_model(done.directory / "best.keras")
    accuracy = (model.predict(_images(few), verbose=0).argmax(1) == few.y_test).mean()
    assert accuracy == pytest.approx(done.metrics["best"]["val_accuracy"], abs=1e-6)


def test_report_reads_the_run(done, tmp_path):
    report.write_report([done.directory], tmp_path / "report")
    (row,) = json.loads((tmp_path / "report" / "table.json").read_text())["runs"]
    assert row["parameters"] == done.metrics["parameters"]
    assert row["val_accuracy"] == done.metrics["final"]["val_accuracy"]


def test_a_second_run_in_the_folder_is_refused(done, few):
    before = {p: p.stat().st_mtime_ns for p in done.directory.rglob("*")}
    with pytest.raises(RunError, match="--overwrite"):
        _run(few, _config(), log_dir=done.directory)
    assert {p: p.stat().st_mtime_ns for p in done.directory.rglob("*")} == before


@pytest.mark.slow
def test_interrupted_in_the_second_epoch(few, tmp_path, monkeypatch, capsys):
    def interrupt(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.SaveBest, "on_epoch_begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _run(few, _config(epochs=5), log_dir=tmp_path / "run")
    assert "Interrupted" in capsys.readouterr().out
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == FILES - {"predictions.png", "confusion.png"}
    metrics = files.read_json(tmp_path / "run" / "metrics.json")
    assert metrics["interrupted"] is True
    assert metrics["epochs"] == 1
    assert [r["epoch"] for r in history.read_history(tmp_path / "run" / "history.csv")] == [1]
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    accuracy = (model.predict(_images(few), verbose=0).argmax(1) == few.y_test).mean()
    # The averages of the stem's norm went on while those of the dynamics were taken again.
    assert accuracy == pytest.approx(metrics["final"]["val_accuracy"], abs=2 / 64)


def _stub(patch, scale):
    """Has experiments train a small model in no time, with inputs times `scale`."""
    patch.setattr(run, "compiled_model", lambda config, dataset: small_model(scale))


def test_interrupted_before_the_first_epoch_is_over(few, tmp_path, monkeypatch):
    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    _stub(monkeypatch, 1.0)
    monkeypatch.setattr(callbacks.SaveBest, "on_epoch_begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _run(few, _config(), log_dir=tmp_path / "run")
    metrics = files.read_json(tmp_path / "run" / "metrics.json")
    assert metrics["epochs"] == 0
    assert metrics["interrupted"] is True
    assert (tmp_path / "run" / "model.keras").exists()


def test_diverged_in_the_first_epoch(few, tmp_path, monkeypatch):
    _stub(monkeypatch, math.nan)
    with pytest.raises(TrainingError) as error:
        _run(few, _config(), log_dir=tmp_path / "run")
    for part in ("epoch 1, step 1: loss is nan", "rescaling", "no model was saved"):
        assert part in str(error.value)
    metrics = files.read_json(tmp_path / "run" / "metrics.json")
    assert metrics["diverged"] is True
    assert metrics["interrupted"] is False
    assert metrics["epochs"] == 0
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert not names & {"model.keras", "best.keras", "history.csv", "checkpoints"}


def test_bad_settings_are_refused_before_anything_is_touched(tmp_path):
    """With `overwrite`, the old run must still be there when the new one cannot begin."""
    files.write_json(tmp_path / "config.json", RECORD)
    config = _config()
    config.ema, config.strategy = 0.9, "mirrored"
    with pytest.raises(ValueError, match="ema"):
        experiment.run(config, log_dir=tmp_path, overwrite=True)
    assert files.read_json(tmp_path / "config.json") == RECORD
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_data_that_cannot_be_had_leaves_the_old_run(tmp_path):
    files.write_json(tmp_path / "config.json", RECORD)
    config = _config(dataset="mnist")
    with pytest.raises(data.DataError):
        experiment.run(config, log_dir=tmp_path, data_dir=tmp_path / "none", overwrite=True)
    assert files.read_json(tmp_path / "config.json") == RECORD


def test_digits_in_place_of_mnist_are_said_loudly(few, tmp_path, monkeypatch, capsys):
    _stub(monkeypatch, 1.0)
    _run(few, _config(dataset="auto", epochs=1), log_dir=tmp_path / "run")
    printed = capsys.readouterr().out
    assert "NOT MNIST: training on digits (a few of them)" in printed
    record = files.read_json(tmp_path / "run" / "config.json")
    assert record["settings"]["dataset"] == "auto"
    assert record["dataset"]["name"] == "digits"


@pytest.mark.parametrize("coarse", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_only_the_published_config_means_its_coarse_adjoint(few, tmp_path, coarse):
    config = config_file.load_settings(config_file.FOLDER / "ode.py")
    assert config.coarse_adjoint and not Settings.read(_config().to_dict()).coarse_adjoint
    config = Settings.read(override(config.to_dict(), {"epochs": 1, "coarse_adjoint": coarse}))
    config.model.filters = 8
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _run(few, config, log_dir=tmp_path / "run")
    found = {issubclass(w.category, RuntimeWarning) and "misses" in str(w.message) for w in caught}
    assert (True in found) is not coarse


@pytest.mark.slow
def test_mirrored_strategy_runs_end_to_end(few, tmp_path, done):
    """Calibration, counting and the learning rate all meet distributed variables."""
    result = _run(few, _config(strategy="mirrored", epochs=1), log_dir=tmp_path / "run")
    final = result.metrics["final"]
    assert final["nfe_forward"] == final["nfe_backward"] == 4
    assert final["learning_rate"] == pytest.approx(1e-3)
    first = history.read_history(done.directory / contents.HISTORY)[0]
    assert final["loss"] == pytest.approx(first["loss"], rel=1e-4)
