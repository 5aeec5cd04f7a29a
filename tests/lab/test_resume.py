"""Runs that are killed at every write, and go on as if they had not been."""

import functools
import math
import os
import pathlib
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_results import RECORD, assert_same, results
from test_experiment import _config, _run, few_digits

from tfnode import callbacks, data
from tfnode.files import history, plots
from tfnode.files.whole import TEMPORARY, FileError, replacing
from tfnode.lab import experiment, optimization, run
from tfnode.runs import errors, files
from tfnode.runs.errors import RunError

pytestmark = pytest.mark.few(2)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in tfnode catches it."""


@pytest.fixture(scope="module")
def few():
    return few_digits(96, 48)


def _compiled_model(config, dataset):
    """A small model, whose dropout makes the state of its random numbers matter."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / (255 * 0.3081), -0.1307 / 0.3081),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(config.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


PICTURE = tf.io.encode_png(np.zeros((1, 1, 1), np.uint8)).numpy()


def _save_no_picture(figure, path):
    with replacing(path) as temporary:
        temporary.write_bytes(PICTURE)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "compiled_model", _compiled_model)
        patch.setattr(plots, "save", _save_no_picture)
        yield


def _settings(**settings):
    return _config(**{"learning_rate": 3e-2, **settings})


def _die_at_write(patch, number):
    """Dies before the `number`-th file has its name, and half of it is written.

    Returns:
        A list, of the names of the files as they are written.
    """
    written, replace = [], os.replace

    def die(source, target):
        written.append(pathlib.Path(target).name)
        if len(written) == number:
            os.truncate(source, os.path.getsize(source) // 2)
            # A killed process does not tidy up.
            patch.setattr(os, "unlink", lambda path: None)
            raise Killed
        replace(source, target)

    patch.setattr(os, "replace", die)
    return written


def _run_and_die(few, number, *arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        written = _die_at_write(patch, number)
        with pytest.raises(Killed):
            _run(few, *arguments, **options)
    return written[-1]


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory):
    """The results of a run that was never killed, and the files in the order of writing."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        written = _die_at_write(patch, None)
        _run(few, _settings(), log_dir=directory)
    return results(directory), written


EPOCH = ["history.csv", "curves.png", "latest.npz"]
# That the second epoch is the best too makes for more to be lost.
WRITTEN = ["config.json", *EPOCH, "best.keras", *EPOCH, "best.keras", "model.keras"]
WRITTEN += ["predictions.png", "confusion.png", "metrics.json"]


def test_every_epoch_was_the_best(whole):
    assert whole[1] == WRITTEN


@pytest.mark.parametrize(
    "number",
    [
        # The second epoch's are killed in every run of the tests, and the first checkpoint.
        number if number == 4 or number > 5 else pytest.param(number, marks=pytest.mark.slow)
        for number in range(2, len(WRITTEN) + 1)
    ],
)
def test_killed_at_every_write(few, tmp_path, whole, number):
    directory = tmp_path / "run"
    assert _run_and_die(few, number, _settings(), log_dir=directory) == WRITTEN[number - 1]
    assert list(directory.rglob(f"{TEMPORARY}*"))
    if number % 3 == 0:
        # And again, before anything new is done.
        _run_and_die(few, 1, _settings(), log_dir=directory, resume=True)
    _run(few, _settings(), log_dir=directory, resume=True)
    assert_same(directory, whole[0])


def test_killed_before_anything_was_written(few, tmp_path):
    assert _run_and_die(few, 1, _settings(), log_dir=tmp_path / "run") == "config.json"
    with pytest.raises(RunError, match="no run to resume"):
        _run(few, _settings(), log_dir=tmp_path / "run", resume=True)
    _run(few, _settings(epochs=1), log_dir=tmp_path / "run")
    assert not list((tmp_path / "run").glob(f"{TEMPORARY}*"))


@pytest.mark.parametrize("dying_step", [0, 1])
@pytest.mark.parametrize("dying_epoch", [0, 1])
def test_killed_in_the_middle_of_an_epoch(
    few, tmp_path, whole, monkeypatch, dying_epoch, dying_step
):
    """In the second step of two, after the checkpoint that follows the first."""
    always = functools.partial(callbacks.StepBackup, seconds=0.0)
    monkeypatch.setattr(callbacks, "StepBackup", always)

    def die(self, batch, logs=None):
        if self._epoch == dying_epoch and batch == dying_step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Divergence, "on_train_batch_end", die)
        with pytest.raises(Killed):
            _run(few, _settings(), log_dir=tmp_path)
    _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert_same(tmp_path, whole[0])
    (resumed,) = files.read_json(tmp_path / "config.json")["resumed"]
    assert resumed["epoch"] == dying_epoch
    assert resumed["step"] == dying_step
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["latest.npz"]


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["TensorBoard", "Backup"])
def test_killed_at_the_end_of_an_epoch(few, tmp_path, whole, monkeypatch, name):
    callback = getattr(callbacks, name)
    on_epoch_end = callback.on_epoch_end

    def die(self, epoch, logs=None):
        if epoch == 1:
            raise Killed
        on_epoch_end(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callback, "on_epoch_end", die)
        with pytest.raises(Killed):
            _run(few, _settings(), log_dir=tmp_path)
    _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert_same(tmp_path, whole[0])


@pytest.mark.slow
def test_interrupted_by_hand(few, tmp_path, whole, monkeypatch):
    def interrupt(self, batch, logs=None):
        if self._epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Divergence, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _run(few, _settings(), log_dir=tmp_path)
    assert files.read_json(tmp_path / "metrics.json")["interrupted"] is True
    _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert_same(tmp_path, whole[0])


def _signal(patch, method, number, when):
    """Has a signal come in a method of `SolverStats`, in the first epoch for which that is so."""
    original = getattr(callbacks.SolverStats, method)

    def receive(self, place, logs=None):
        original(self, place, logs)
        if when(self, place):
            os.kill(os.getpid(), number)

    patch.setattr(callbacks.SolverStats, method, receive)


@pytest.mark.few(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_loses_no_step(few, tmp_path, whole, monkeypatch, number):
    """In the first step of the first epoch; the step is finished, and is in the checkpoint."""
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        _signal(patch, "on_train_batch_begin", number, lambda self, batch: batch == 0)
        with pytest.raises(errors.Interrupted) as interrupted:
            _run(few, _settings(), log_dir=tmp_path)
    assert interrupted.value.signal == number
    assert interrupted.value.directory == tmp_path
    assert signal.getsignal(number) == before
    assert (tmp_path / "model.keras").exists()
    _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert_same(tmp_path, whole[0])
    (resumed,) = files.read_json(tmp_path / "config.json")["resumed"]
    assert (resumed["epoch"], resumed["step"]) == (0, 1)


@pytest.mark.few(1)
@pytest.mark.parametrize("method", ["on_train_batch_begin", "on_test_batch_begin"])
def test_a_signal_late_in_an_epoch(few, tmp_path, whole, monkeypatch, method):
    """In its last step, or its validation: it ends with the epoch, which is whole."""
    with monkeypatch.context() as patch:
        late = 1 if "train" in method else 0
        _signal(patch, method, signal.SIGTERM, lambda self, batch: batch == late)
        with pytest.raises(errors.Interrupted):
            _run(few, _settings(), log_dir=tmp_path)
    assert files.read_json(tmp_path / "metrics.json")["epochs"] == 1
    _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert_same(tmp_path, whole[0])
    (resumed,) = files.read_json(tmp_path / "config.json")["resumed"]
    assert (resumed["epoch"], resumed["step"]) == (1, 0)


def test_a_second_ctrl_c_ends_it_at_once(few, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _signal(patch, "on_train_batch_begin", signal.SIGINT, lambda self, batch: True)
        _signal(patch, "on_train_batch_begin", signal.SIGINT, lambda self, batch: True)
        with pytest.raises(errors.Interrupted):
            _run(few, _settings(), log_dir=tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_more_epochs(few, tmp_path, whole):
    _run(few, _settings(epochs=1), log_dir=tmp_path)
    with pytest.raises(RunError, match=r"finished: 1 epochs.*raise --epochs"):
        _run(few, _settings(epochs=1), log_dir=tmp_path, resume=True)
    _run(few, _settings(epochs=2), log_dir=tmp_path, resume=True)
    assert_same(tmp_path, whole[0])
    assert files.read_json(tmp_path / "config.json")["settings"]["epochs"] == 2


@pytest.mark.slow
def test_schedule_augmentation_averages_and_validation(few, tmp_path, monkeypatch):
    """All that a run may have beyond the paper's, killed in the middle of an epoch."""
    more = {"schedule": "one_cycle", "weight_decay": 1e-2, "ema": 0.5, "validation": 0.25}
    moves = {"shift": 2.0, "rotation": 10.0, "zoom": 0.1}
    settings = _settings(**more, augmentation=moves)

    def compiled_model(config, dataset):
        model = _compiled_model(config, dataset)
        steps = config.epochs * dataset.steps(config.batch_size)
        model.compile(optimization.optimizer(config, steps), model.loss, metrics=["accuracy"])
        return model

    def die(self, batch, logs=None):
        if self._epoch == 1 and batch == 0:
            raise Killed

    monkeypatch.setattr(run, "compiled_model", compiled_model)
    _run(few, settings, log_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Divergence, "on_train_batch_end", die)
        with pytest.raises(Killed):
            _run(few, settings, log_dir=tmp_path / "killed")
    _run(few, settings, log_dir=tmp_path / "killed", resume=True)
    expected = results(tmp_path / "whole")
    assert_same(tmp_path / "killed", expected)
    assert expected["metrics"]["test"].keys() == {"loss", "accuracy"}
    # The rate of the last step of each epoch, of which both have two.
    rates = [float(row["learning_rate"]) for row in expected["history"]]
    assert rates == pytest.approx([3e-2, 3e-2 * (1 + math.cos(math.pi * 2 / 3)) / 2])
    with pytest.raises(errors.OtherSettings, match="epochs"):
        settings.epochs = 3
        _run(few, settings, log_dir=tmp_path / "whole", resume=True)


def test_mirrored(few, tmp_path, whole):
    """Variables of a strategy are saved and set as others are."""
    settings = {"strategy": "mirrored"}
    _run(few, _settings(epochs=1, **settings), log_dir=tmp_path)
    _run(few, _settings(epochs=2, **settings), log_dir=tmp_path, resume=True)
    rows = history.read_history(tmp_path / "history.csv")
    losses = [float(row["loss"]) for row in whole[0]["history"]]
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)


@pytest.mark.slow
def test_other_settings_are_refused(few, tmp_path):
    _run(few, _settings(), log_dir=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for name, old, new in (
        ("learning_rate", 0.03, 0.5),
        ("seed", 0, 1),
        ("epochs", 2, 1),
        ("model.filters", 4, 5),
    ):
        with pytest.raises(errors.OtherSettings) as error:
            _run(few, _settings(**{name: new}), log_dir=tmp_path, resume=True)
        assert f"Expected {name}={old}. Received: {name}={new}." in str(error.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_run_in_a_folder_inside_is_left_alone(few, tmp_path):
    """Its event files are not those of the run that is resumed."""
    inside = tmp_path / "copy"
    _run(few, _settings(epochs=1), log_dir=tmp_path)
    _run(few, _settings(epochs=1), log_dir=inside)
    before = {p: p.read_bytes() for p in inside.rglob("*tfevents*")}
    assert {p.parent.name for p in before} == {"copy", "train", "validation"}
    _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert {p: p.read_bytes() for p in inside.rglob("*tfevents*")} == before


def test_other_data_is_refused(few, tmp_path):
    _run_and_die(few, 3, _settings(), log_dir=tmp_path)
    other = few._replace(y_train=few.y_train[::-1].copy())
    with pytest.raises(RunError, match="other data"):
        _run(other, _settings(), log_dir=tmp_path, resume=True)


def test_the_data_set_of_the_run_is_used_again(few, tmp_path, monkeypatch):
    """`auto` may find other data than when the run was begun."""
    _run_and_die(few, 5, _settings(dataset="auto"), log_dir=tmp_path)
    asked = []
    monkeypatch.setattr(data, "load", lambda name, data_dir: asked.append(name) or few)
    experiment.run(_settings(dataset="auto"), log_dir=tmp_path, resume=True)
    assert asked == ["digits"]


def test_damaged_checkpoint(few, tmp_path):
    _run_and_die(few, 6, _settings(), log_dir=tmp_path)
    path = tmp_path / "checkpoints" / "latest.npz"
    content = path.read_bytes()
    history = (tmp_path / "history.csv").read_bytes()
    for damaged in (b"", b"no zip", content[:-50], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"latest\.npz.*--overwrite"):
            _run(few, _settings(), log_dir=tmp_path, resume=True)
    assert (tmp_path / "history.csv").read_bytes() == history


def test_lost_checkpoint_or_history(few, tmp_path):
    """Nothing begins at epoch 1 in silence, and no epoch is missing in the end."""
    _run(few, _settings(), log_dir=tmp_path)
    for name in ("checkpoints/latest.npz", "history.csv"):
        path = tmp_path / name
        path.rename(tmp_path / "away")
        with pytest.raises(FileError, match=r"history\.csv"):
            _run(few, _settings(epochs=3), log_dir=tmp_path, resume=True)
        (tmp_path / "away").rename(path)
    _run(few, _settings(epochs=3), log_dir=tmp_path, resume=True)


def test_damaged_config(few, tmp_path):
    for record in ({**RECORD, "settings": 1}, {**RECORD, "dataset": 2}):
        files.write_json(tmp_path / "config.json", record)
        with pytest.raises(RunError, match=r"config\.json.*--overwrite"):
            _run(few, _settings(), log_dir=tmp_path, resume=True)


def test_diverged_later(few, tmp_path, monkeypatch, capsys):
    """What was good is kept: the model of the last whole epoch, and no row of the other."""
    on_epoch_begin = callbacks.SolverStats.on_epoch_begin

    # Of the first callback, before Divergence keeps what it goes on from.
    def spoil(self, epoch, logs=None):
        on_epoch_begin(self, epoch, logs)
        if epoch == 1:
            self.model.optimizer.learning_rate.assign(math.inf)

    monkeypatch.setattr(callbacks.SolverStats, "on_epoch_begin", spoil)
    with pytest.raises(errors.TrainingError) as error:
        _run(few, _settings(epochs=3), log_dir=tmp_path)
    message = str(error.value)
    assert "Training diverged in epoch 2, step 1: " in message
    assert "It is the optimizer: the gradient of dense" in message
    assert "model.keras is the model after epoch 1, best.keras the one after epoch 1." in message
    metrics = files.read_json(tmp_path / "metrics.json")
    assert metrics["diverged"] is True
    assert metrics["epochs"] == 1
    good, best = (keras.models.load_model(tmp_path / x) for x in ("model.keras", "best.keras"))
    for a, b in zip(good.get_weights(), best.get_weights()):
        assert (a == b).all()
    # Without the trouble, it goes on from there.
    monkeypatch.undo()
    monkeypatch.setattr(run, "compiled_model", _compiled_model)
    assert _run(few, _settings(epochs=3), log_dir=tmp_path, resume=True).metrics["epochs"] == 3
