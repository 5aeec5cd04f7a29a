"""A disk that is full, or that cannot be written: an error, and nothing that was there is lost."""

import contextlib
import os
import shutil
import subprocess

import command
import numpy as np
import pytest
import tensorflow as tf
from run_results import assert_whole, small_model

from tfnode import callbacks, data, report
from tfnode.files import history, whole
from tfnode.lab import run as lab_run
from tfnode.runs import contents, files


@contextlib.contextmanager
def _mount(folder, *options):
    """A file system in memory, of its own size; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(arguments, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        # Lazily, since TensorFlow holds its event files open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def few(monkeypatch):
    """A few images and a small model in place of those of the experiment."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (64, 28, 28, 1), np.uint8)
    y = rng.integers(0, 10, (64,), np.uint8)
    dataset = data.Dataset("digits", "made up", x, y, x, y)
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: dataset)
    monkeypatch.setattr(lab_run, "compiled_model", lambda config, dataset: small_model())


def _train(folder, *arguments):
    """The status and the messages of a run of three epochs."""
    status, message, _ = command.run(
        ["--dataset=digits", "--epochs=3", f"--log_dir={folder}", *arguments], main=True
    )
    return status, message


def _check_whole(folder):
    """Every file that is there can be read, and no other is."""
    for path in folder.iterdir():
        known = path.name in (*contents.CONTENTS, ".lock")
        assert known or path.name.startswith("events.out.tfevents.")
    assert_whole(folder)


def _check_refused(status, message):
    assert status == 1
    assert message.startswith("train.py: ")
    assert message.count("\n") == 1
    assert "space" in message


# Too small for the events, the history, the curves, the models.
@pytest.mark.parametrize("size", [4, 8, 12, 32, 64, 96, 140])
def test_a_disk_that_is_too_small(few, tmp_path, size):
    with _mount(tmp_path / "disk", f"size={size}k") as disk:
        _check_refused(*_train(disk / "run"))
        _check_whole(disk / "run")


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("left", [0, 4096])
def test_a_disk_that_fills(few, tmp_path, monkeypatch, epoch, left):
    with _mount(tmp_path / "disk", "size=1m") as disk:
        kept = {}

        def fill(self, number, logs=None):
            if number == epoch:
                kept.update((p, p.read_bytes()) for p in (disk / "run").iterdir() if p.is_file())
                free = os.statvfs(disk)
                (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize - left))

        monkeypatch.setattr(callbacks.SaveBest, "on_epoch_begin", fill)
        _check_refused(*_train(disk / "run"))
        _check_whole(disk / "run")
        assert {p.name for p in kept} >= {"config.json", "history.csv", "curves.png", "best.keras"}
        for path, content in kept.items():
            if path.name != "history.csv" or not left:  # A small file may still fit.
                assert path.read_bytes() == content


def test_a_disk_that_cannot_be_written(few, tmp_path):
    with _mount(tmp_path / "disk", "ro") as disk:
        status, message = _train(disk / "run")
        assert status == 1
        assert message.startswith("train.py: Cannot write to")
        assert "--log_dir" in message


def test_a_run_that_can_no_longer_be_written(few, tmp_path, monkeypatch):
    with _mount(tmp_path / "disk", "size=1m") as disk:
        _train(disk / "run")
        before = {p: p.read_bytes() for p in (disk / "run").iterdir() if p.is_file()}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        status, message = _train(disk / "run", "--overwrite")
        assert status == 1
        assert message.startswith("train.py: Cannot write to")
        assert {p: p.read_bytes() for p in (disk / "run").iterdir() if p.is_file()} == before


@pytest.mark.parametrize("options", [["size=8k"], ["ro"]])
def test_a_report_that_cannot_be_written(tmp_path, capsys, options):
    run = tmp_path / "run"
    run.mkdir()
    row = {**dict.fromkeys(history.HISTORY_COLUMNS), "epoch": 1, "loss": 0.5}
    history.write_history(run / contents.HISTORY, [row])
    files.write_json(run / contents.METRICS, {})
    with _mount(tmp_path / "disk", *options) as disk:
        assert report.main([str(run), "--out", str(disk / "report")]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        assert not list(disk.rglob("*.*"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        PermissionError(13, "Permission denied"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_write_raises_leaves_the_old(tmp_path, error):
    """Where nothing can be mounted, too."""
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    expected = pytest.raises(type(error), match=r"No space|Permission")
    if isinstance(error, OSError):
        expected = pytest.raises(type(error), match=f"Cannot write {path}: .*(No space|Permission)")
    with expected, whole.replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
