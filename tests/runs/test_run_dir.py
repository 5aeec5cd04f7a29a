"""Run directories: files that are whole or not there, and folders that are never mixed."""

import errno
import fcntl
import json
import math
import os
import stat
import subprocess
import sys

import pytest

from tfnode.files import history, whole
from tfnode.files.whole import FileError
from tfnode.runs import files, run_dir
from tfnode.runs.errors import RunError

HEADER = ",".join(history.HISTORY_COLUMNS)


@pytest.fixture
def umask():
    """Sets the mask for new files, and sets it back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


# --- Writing whole files --------------------------------------------------------------


def test_replacing_writes(tmp_path):
    path = tmp_path / "file.json"
    for text in ("one", "two"):
        with whole.replacing(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".json"
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(error), whole.replacing(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_makes_nothing_when_the_body_raises(tmp_path):
    with pytest.raises(ValueError), whole.replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_replacing_a_folder_fails_and_leaves_nothing(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError), whole.replacing(tmp_path / "taken") as temporary:
        temporary.write_text("text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inside", "taken"]


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_mask(tmp_path, umask, mask, mode):
    umask(mask)
    files.write_json(tmp_path / "file.json", {})
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == mode
    assert umask(0o022) == mask


# --- JSON -----------------------------------------------------------------------------


def test_json_reads_back(tmp_path):
    value = {"a": 1, "b": [None, 2.5, "ü"], "c": {"d": True}}
    files.write_json(tmp_path / "file.json", value)
    assert files.read_json(tmp_path / "file.json") == value
    assert json.loads((tmp_path / "file.json").read_text()) == value


def test_json_that_cannot_be_written_leaves_the_old(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"old": 1})
    for value, error in (({"x": math.nan}, ValueError), ({"x": object()}, TypeError)):
        with pytest.raises(error):
            files.write_json(path, value)
    assert files.read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


BAD_JSON = {
    "empty": b"",
    "cut": b'{"a": ',
    "list": b"[1]",
    "number": b"1",
    "no utf-8": b'{"a": "\xff"}',
    "deep": b"[" * 100000,
    "very long number": b'{"a": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_json_refuses(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as error:
        files.read_json(path)
    assert str(path) in str(error.value)


def test_json_missing(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(RunError) as error:
            files.read_json(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("read", [files.read_json, history.read_history])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is no file"):
        read(tmp_path / "pipe")


# --- history.csv ----------------------------------------------------------------------


def _row(epoch, **values):
    return {**dict.fromkeys(history.HISTORY_COLUMNS), "epoch": epoch, **values}


def test_history_reads_back(tmp_path):
    rows = [_row(1, loss=0.1 + 0.2, seconds=1e-3), _row(2, loss=1e300, val_accuracy=1.0)]
    path = tmp_path / "history.csv"
    history.write_history(path, rows)
    assert history.read_history(path) == rows
    assert path.read_text().splitlines()[0] == HEADER
    assert list(tmp_path.iterdir()) == [path]


def test_history_of_another_score(tmp_path):
    columns = tuple(name.replace("accuracy", "rmse") for name in history.HISTORY_COLUMNS)
    assert history.history_columns("rmse") == columns
    rows = [{**dict.fromkeys(columns), "epoch": n, "val_rmse": 2.0 - n} for n in (1.0, 2.0)]
    path = tmp_path / "history.csv"
    history.write_history(path, rows)
    assert history.read_history(path) == rows
    assert path.read_text().splitlines()[0] == ",".join(columns)


@pytest.mark.parametrize("score, best", [("accuracy", 2), ("rmse", 3)])
def test_best_row(score, best):
    values = [None, 0.5, 0.25, 0.5, 0.25]
    rows = [{"epoch": n, score: 0.0, f"val_{score}": v} for n, v in enumerate(values, 1)]
    assert history.score_of(rows) == score
    assert history.best_row(rows)["epoch"] == best
    assert history.best_row(rows[:1]) is None
    assert history.best_row([]) is None


def test_history_without_rows(tmp_path):
    history.write_history(tmp_path / "history.csv", [])
    assert history.read_history(tmp_path / "history.csv") == []


def test_history_with_an_unknown_column_leaves_the_old(tmp_path):
    path = tmp_path / "history.csv"
    history.write_history(path, [_row(1)])
    with pytest.raises(ValueError):
        history.write_history(path, [_row(1), {**_row(2), "more": 1}])
    assert history.read_history(path) == [_row(1)]


BAD_HISTORIES = {
    "empty": "",
    "other columns": "a,b\n1,2\n",
    "columns in another order": ",".join(reversed(history.HISTORY_COLUMNS)) + "\n",
    "one column less": HEADER.rsplit(",", 1)[0] + "\n",
    "one column more": HEADER + ",more\n",
    "column twice": HEADER.replace("loss", "epoch", 1) + "\n",
    "words": f"{HEADER}\n1,a,b,c,d,e,f,g,h\n",
    "short row": f"{HEADER}\n1,2\n",
    "long row": f"{HEADER}\n" + ",".join("123456789") + ",10\n",
    "cut row": f"{HEADER}\n" + ",".join("123456789") + "\n2,0.",
    "quote without an end": f'{HEADER}\n"1,2',
    "huge field": f"{HEADER}\n{'1' * 200000},2\n",
    "no epoch": f"{HEADER}\n,1,1,1,1,1,1,1,1\n",
}


@pytest.mark.parametrize("content", BAD_HISTORIES.values(), ids=BAD_HISTORIES.keys())
def test_history_refuses(tmp_path, content):
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(FileError) as error:
        history.read_history(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_history_refuses_other_bytes(tmp_path):
    path = tmp_path / "history.csv"
    for content in (b"\xff\xfe\0\0", f"{HEADER}\n".encode("utf-16"), b"\0"):
        path.write_bytes(content)
        with pytest.raises(FileError):
            history.read_history(path)
    with pytest.raises(FileError):
        history.read_history(tmp_path)
    with pytest.raises(FileError):
        history.read_history(tmp_path / "none.csv")


# --- Choosing the folder --------------------------------------------------------------


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


# --- The lock, and what a kill leaves -------------------------------------------------


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
