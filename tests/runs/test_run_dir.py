"""Run directories: folders that are never mixed."""

import errno
import fcntl
import os
import pathlib
import subprocess
import sys

import pytest
from run_results import RECORD

import tfnode
from tfnode.runs import contents, files, run_dir
from tfnode.runs.errors import RunError
from tfnode.runs.record import read_record


def _prepare(*arguments, **options):
    """Enters the context and leaves it."""
    with run_dir.prepare(*arguments, **options) as path:
        assert (path / contents.LOCK).exists()
    (path / contents.LOCK).unlink()
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _begin(path):
    path.mkdir(parents=True, exist_ok=True)
    files.write_json(path / contents.CONFIG, RECORD)
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
    assert (here / "logs" / "ode" / contents.CONFIG).exists()
    assert _prepare(None, "ode", overwrite=True).as_posix() == "logs/ode"
    assert not (here / "logs" / "ode" / contents.CONFIG).exists()
    assert (here / "logs" / "ode-2" / contents.CONFIG).exists()


def test_named_folder_is_made(tmp_path):
    path = _prepare(tmp_path / "a" / "b", "ode")
    assert path == tmp_path / "a" / "b"
    assert list(path.iterdir()) == []
    assert _prepare(str(path), "ode") == path


def test_folder_with_a_run_is_refused(tmp_path):
    _begin(tmp_path)
    with pytest.raises(RunError, match=r"--resume.*--overwrite") as error:
        _prepare(tmp_path, "ode")
    assert str(tmp_path) in str(error.value)
    assert (tmp_path / contents.CONFIG).exists()


OF_RUNS = ("history.csv", "curves.png", "metrics.json", "model.keras", "best.keras")


@pytest.mark.parametrize(
    "names, record",
    [
        *((OF_RUNS, record) for record in (None, {}, {"model_type": "gpt2"}, {"settings": {}})),
        *(((name,), None) for name in ("thesis.tex", "train/cats/1.jpg", "validation/cats/1.jpg")),
    ],
)
def test_only_the_mark_makes_a_run(tmp_path, names, record):
    """Other programs have files of these names, and data sets have folders of these names, too."""
    _fill(tmp_path, names)
    if record is not None:
        files.write_json(tmp_path / contents.CONFIG, record)
    before = _tree(tmp_path)
    for arguments in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match="holds files but no run"):
            _prepare(tmp_path, "ode", **arguments)
    assert _tree(tmp_path) == before


def test_runs_of_older_versions_are_known():
    root = pathlib.Path(tfnode.__file__).parents[1] / "logs" / "reference"
    for name in ("ode", "resnet", "spirals/runs/rnn-30-seed0"):
        assert contents.holds_run(root / name)


def _tree(folder):
    """Every path in a folder, with the content of files and the targets of links."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


OWN = (
    *(*OF_RUNS, ".lock"),
    *("checkpoints/latest.npz", "checkpoints/step.npz", "checkpoints/.tmp-latest-x1.npz"),
    *("train/events.out.tfevents.1.host.v2", "validation/events.out.tfevents.2.host.v2"),
    *("model.onnx", "model.tflite", "saved_model/1/saved_model.pb"),
    *("saved_model/1/fingerprint.pb", "saved_model/1/variables/variables.index"),
    "saved_model/1/variables/variables.data-00000-of-00001",
)


def _fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_overwrite_removes_the_files_of_the_run(tmp_path):
    _fill(_begin(tmp_path), OWN)
    (tmp_path / "saved_model" / "1" / "assets").mkdir()
    assert _prepare(tmp_path, "ode", overwrite=True) == tmp_path
    assert not list(tmp_path.iterdir())


STRANGERS = (
    *("notes.txt", "train/cats/1.jpg", "validation/cats/2.jpg", "checkpoints/weights.pt"),
    *("saved_model/mine", "saved_model/2/saved_model.pb", "train/mine", "mine/config.json"),
    *("saved_model/1/assets/words.txt", ".tmp-mine-x1.txt", "checkpoints/history.csv"),
)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_overwrite_is_refused_where_other_files_are(tmp_path, stranger):
    _fill(_begin(tmp_path), (*OWN, stranger))
    before = _tree(tmp_path)
    with pytest.raises(RunError, match="tfnode did not write") as error:
        _prepare(tmp_path, "ode", overwrite=True)
    named = str(error.value).split("did not write: ")[1].split(".")[0]
    assert stranger.startswith(named)
    assert _tree(tmp_path) == before
    # They are in the way of nothing else.
    _prepare(tmp_path, "ode", resume=True)
    assert (tmp_path / stranger).read_text() == stranger


@pytest.mark.parametrize("name", (contents.CONFIG, *OWN))
def test_no_link_is_followed(tmp_path, name):
    """The file that it points to is neither written to nor removed."""
    mine = tmp_path / "mine"
    run = _begin(tmp_path / "run")
    files.write_json(mine, RECORD)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine)
    before = _tree(tmp_path)
    for arguments in ({}, {"overwrite": True}, {"resume": True}):
        for use in (run_dir.check, _prepare):
            with pytest.raises(RunError, match="no links") as error:
                use(run, "ode", **arguments)
            assert name in str(error.value)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("name", ["checkpoints", "train", "validation", "saved_model"])
def test_no_link_to_a_folder_is_followed(tmp_path, name):
    (tmp_path / "mine").mkdir()
    _fill(tmp_path / "mine", ["latest.npz", ".tmp-latest-x1.npz", "events.out.tfevents.1"])
    run = _begin(tmp_path / "run")
    (run / name).symlink_to(tmp_path / "mine", target_is_directory=True)
    before = _tree(tmp_path)
    for arguments in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match="no links"):
            _prepare(run, "ode", **arguments)
    assert _tree(tmp_path) == before


def test_a_link_that_comes_too_late_to_be_seen(tmp_path, monkeypatch):
    """The lock itself is opened without following one."""
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / contents.LOCK).symlink_to(tmp_path / "mine")
    monkeypatch.setattr(run_dir, "check_contents", lambda *arguments: None)
    with pytest.raises(RunError, match="symbolic links"):
        _prepare(tmp_path / "run", "ode")
    assert (tmp_path / "mine").read_text() == "years of work"


def test_the_lock_empties_no_file(tmp_path):
    """Not that of another name for the same file, either."""
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "mine", tmp_path / "run" / contents.LOCK)
    with run_dir.prepare(tmp_path / "run", "ode"):
        pass
    assert (tmp_path / "mine").read_text() == "years of work"


def test_a_killed_overwrite_can_be_repeated(tmp_path, monkeypatch):
    unlink, left = os.unlink, [3]

    def die(path, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        unlink(path, **options)

    _fill(_begin(tmp_path), OWN)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", die)
        with pytest.raises(KeyboardInterrupt), run_dir.prepare(tmp_path, "ode", overwrite=True):
            pass
    assert contents.holds_run(tmp_path)
    _prepare(tmp_path, "ode", overwrite=True)
    assert not list(tmp_path.iterdir())


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
    event = "train/.tmp-events.out.tfevents.1.host-c3.v2"
    names = (".tmp-history-a1.csv", "checkpoints/.tmp-latest-b2.npz", event)
    mine = (".hidden", ".tmp-mine-a1.csv", "checkpoints/mine")
    for name in (*names, *mine):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    _prepare(tmp_path, "ode", resume=True)
    assert not any((tmp_path / name).exists() for name in names)
    assert all((tmp_path / name).exists() for name in mine)


def test_a_folder_of_a_run_that_never_began_is_free(tmp_path):
    (tmp_path / contents.LOCK).touch()
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
    assert [p.name for p in (tmp_path / "run").iterdir()] == [contents.CONFIG]


@pytest.mark.parametrize(
    ("norm", "kept"),
    [
        ("batch", {"renorm": False, "group_size": 1}),
        ("group", {"renorm": True, "group_size": 1}),
    ],
)
def test_a_run_of_an_older_version_goes_on_as_it_began(norm, kept, tmp_path):
    record = RECORD | {"settings": {"model": {"norm": norm}}}
    files.write_json(tmp_path / contents.CONFIG, record)
    assert read_record(tmp_path)["settings"]["model"] == {"norm": norm, **kept}
    record["settings"]["model"] |= {"renorm": True, "group_size": 4}
    files.write_json(tmp_path / contents.CONFIG, record)
    assert read_record(tmp_path) == record
