"""Run directories: folders that are never mixed."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from tfnode.runs import files, run_dir
from tfnode.runs.errors import RunError


def _prepare(*arguments, **options):
    """Enters the context and leaves it."""
    with run_dir.prepare(*arguments, **options) as path:
        assert (path / run_dir.LOCK).exists()
    (path / run_dir.LOCK).unlink()
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _begin(path):
    path.mkdir(parents=True, exist_ok=True)
    files.write_json(path / run_dir.CONFIG, {})
    return path


def test_default_folder_and_the_next_free(here):
    for expected in ("logs/ode", "logs/ode-2", "logs/ode-3"):
        path = _prepare(None, "ode")
        assert path.as_posix() == expected
        assert path.is_dir()
        assert not any(path.iterdir())
        _begin(path)
    assert _prepare(None, "resnet").as_posix() == "logs/resnet"


def test_default_folder_to_resume_or_overwrite(here):
    for name in ("ode", "ode-2"):
        _begin(here / "logs" / name)
    assert _prepare(None, "ode", resume=True).as_posix() == "logs/ode"
    assert (here / "logs" / "ode" / run_dir.CONFIG).exists()
    assert _prepare(None, "ode", overwrite=True).as_posix() == "logs/ode"
    assert not (here / "logs" / "ode" / run_dir.CONFIG).exists()
    assert (here / "logs" / "ode-2" / run_dir.CONFIG).exists()


def test_named_folder_is_made(tmp_path):
    path = _prepare(tmp_path / "a" / "b", "ode")
    assert path == tmp_path / "a" / "b"
    assert list(path.iterdir()) == []
    assert _prepare(str(path), "ode") == path


EXPORTS = [path.split("/")[0] for path in run_dir.EXPORTS.values()]


@pytest.mark.parametrize("name", [n for n in run_dir.CONTENTS if "." in n and n not in EXPORTS])
def test_folder_with_a_run_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(RunError, match=r"--resume.*--overwrite") as error:
        _prepare(tmp_path, "ode")
    assert str(tmp_path) in str(error.value)
    assert (tmp_path / name).exists()


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for arguments in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match="no run"):
            _prepare(tmp_path, "ode", **arguments)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_resume_keeps_all(tmp_path):
    _begin(tmp_path)
    assert _prepare(tmp_path, "ode", resume=True) == tmp_path
    assert (tmp_path / run_dir.CONFIG).exists()


def test_overwrite_deletes_only_the_runs_own(tmp_path):
    run = _begin(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for name in ("history.csv", "curves.png", "metrics.json", "model.keras", "best.keras"):
        (run / name).write_text("old")
    for name in ("checkpoints", "validation"):
        (run / name / "deep").mkdir(parents=True)
        (run / name / "deep" / "file").touch()
    (run / "train").symlink_to(outside, target_is_directory=True)
    (run / "notes.txt").write_text("mine")
    (run / "other").mkdir()
    assert _prepare(run, "ode", overwrite=True) == run
    assert sorted(p.name for p in run.iterdir()) == ["notes.txt", "other"]
    assert (run / "notes.txt").read_text() == "mine"
    assert (outside / "kept").exists()


@pytest.mark.parametrize("name", run_dir.EVENTS)
def test_overwrite_spares_a_folder_of_data(tmp_path, name):
    """Data sets have folders called train and validation too: those alone are no run."""
    (tmp_path / name / "cats").mkdir(parents=True)
    (tmp_path / name / "cats" / "1.jpg").touch()
    with pytest.raises(RunError):
        _prepare(tmp_path, "ode", overwrite=True)
    assert (tmp_path / name / "cats" / "1.jpg").exists()


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("n" * 300)):
        with pytest.raises(RunError, match="Choose another --log_dir"):
            _prepare(path, "ode")
        # At once, and not when TensorFlow is loaded.
        for arguments in ({}, {"overwrite": True}):
            with pytest.raises(RunError, match="Choose another --log_dir"):
                run_dir.check(path, "ode", **arguments)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path):
    path = tmp_path / "closed"
    path.mkdir(mode=0o500)
    for arguments in ({}, {"overwrite": True}):
        with pytest.raises(RunError, match="Cannot write"):
            _prepare(path, "ode", **arguments)


def test_two_in_one_folder(tmp_path):
    _begin(tmp_path)
    (tmp_path / "history.csv").write_text("kept")
    for options in ({"resume": True}, {"overwrite": True}):
        with run_dir.prepare(tmp_path, "ode", resume=True):
            for use in (run_dir.check, _prepare):
                with pytest.raises(RunError, match="in use by another process.*log_dir"):
                    use(tmp_path, "ode", **options)
        run_dir.check(tmp_path, "ode", **options)
    assert (tmp_path / "history.csv").read_text() == "kept"


def test_two_at_once_get_folders_of_their_own(here):
    """Before either has written anything."""
    with run_dir.prepare(None, "ode") as one, run_dir.prepare(None, "ode") as two:
        assert (one.as_posix(), two.as_posix()) == ("logs/ode", "logs/ode-2")


def test_a_killed_process_holds_no_lock(tmp_path):
    script = (
        "import sys, time\n"
        "from tfnode.runs import run_dir\n"
        "with run_dir.prepare(sys.argv[1], 'ode'):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(RunError, match="in use by another process"):
        _prepare(tmp_path / "run", "ode")
    process.kill()
    process.communicate()
    _prepare(tmp_path / "run", "ode")


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, capsys):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    _prepare(tmp_path / "run", "ode")
    assert "Cannot lock" in capsys.readouterr().err


def test_halves_of_files_are_removed(tmp_path):
    _begin(tmp_path)
    names = (".tmp-history-a1.csv", "checkpoints/.tmp-latest-b2.npz", "train/.tmp-events-c3.v2")
    mine = (".hidden", "checkpoints/mine")
    for name in (*names, *mine):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    _prepare(tmp_path, "ode", resume=True)
    assert not any((tmp_path / name).exists() for name in names)
    assert all((tmp_path / name).exists() for name in mine)


def test_a_folder_of_a_run_that_never_began_is_free(tmp_path):
    (tmp_path / run_dir.LOCK).touch()
    (tmp_path / ".tmp-config-a1.json").touch()
    assert _prepare(tmp_path, "ode") == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_check_of_the_default_folder(here):
    (here / "logs").touch()
    with pytest.raises(RunError, match="Choose another --log_dir"):
        run_dir.check(None, "ode")


def test_check_touches_nothing(tmp_path):
    run_dir.check(tmp_path / "new", "ode")
    assert not list(tmp_path.iterdir())
    _begin(tmp_path / "run")
    for arguments, message in (
        ({}, "already holds a run"),
        ({"path": tmp_path / "none", "resume": True}, "no run to resume"),
        ({"path": tmp_path}, "holds files but no run"),
    ):
        with pytest.raises(RunError, match=message):
            run_dir.check(**{"path": tmp_path / "run", "model": "ode", **arguments})
    assert [p.name for p in (tmp_path / "run").iterdir()] == [run_dir.CONFIG]
