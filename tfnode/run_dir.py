"""A run directory: its names, and reading and writing its files whole.

Imports no TensorFlow, so that what only reads runs starts at once.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import sys
import tempfile

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there.
    fcntl = None

CONFIG = "config.json"
HISTORY = "history.csv"
CURVES = "curves.png"
METRICS = "metrics.json"
MODEL = "model.keras"
BEST = "best.keras"
CHECKPOINTS = "checkpoints"
# In the folder of checkpoints: after the last whole epoch, and within the one after it.
LATEST = "latest.npz"
STEP = "step.npz"
EVENTS = ("train", "validation")
# What tfnode.export writes, unless told where. The 1 is the version for TensorFlow Serving.
EXPORTS = {"saved_model": "saved_model/1", "onnx": "model.onnx", "tflite": "model.tflite"}
LOCK = ".lock"
# What the name of a file begins with until it is whole.
TEMPORARY = ".tmp-"
CONTENTS = (CONFIG, HISTORY, CURVES, METRICS, MODEL, BEST, CHECKPOINTS, *EVENTS)


class RunError(ValueError):
    """A run directory that cannot be used; the message says what to do."""


class OtherSettings(RunError):
    """Settings that are not those of the run that they should continue."""


class Finished(RunError):
    """A run with nothing left to do."""


class Taken(RunError):
    """A run directory that belongs to another run."""


@contextlib.contextmanager
def replacing(path):
    """Writes beside `path`, then renames over it, so that it is never half-written.

    Args:
        path: The file to replace.

    Yields:
        A temporary path in the same folder and with the same ending, to write to.

    Raises:
        OSError: If it cannot be written, naming it; what was there is as before.
    """
    path = pathlib.Path(path)
    try:
        with _beside(path) as temporary:
            yield temporary
    except OSError as error:
        reason = f"Cannot write {path}: {error.strerror or error}. Is there space left?"
        raise OSError(error.errno, reason) from error


@contextlib.contextmanager
def _beside(path):
    prefix = f"{TEMPORARY}{path.stem}-"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield pathlib.Path(name)
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _umask():
    """The mask for new files. Temporary ones are made private; what is kept need not be."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path, value):
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, sort_keys=True) + "\n")


def refuse_pipe(path):
    """Reading a pipe would wait for ever, and a device may have no end."""
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def read_json(path):
    """What `write_json` wrote.

    Raises:
        RunError: If the file is missing or is not a JSON object.
    """
    try:
        refuse_pipe(path)
        text = pathlib.Path(path).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"Expected a JSON file at {path}. Received: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"Expected a JSON object in {path}. Received: {type(value).__name__}")
    return value


def holds_run(path):
    """Whether a folder holds a run, or the beginning of one.

    Folders named `train` or `validation` alone are no sign of one.
    """
    names = (CONFIG, HISTORY, CURVES, METRICS, MODEL, BEST)
    return any((pathlib.Path(path) / name).is_file() for name in names)


@contextlib.contextmanager
def prepare(path, model, *, resume=False, overwrite=False):
    """Chooses, makes and locks the folder of a run; two runs never share one.

    The lock is the operating system's, on the file `.lock`: it ends with the process,
    however that ends. What a killed process left half-written is removed.

    Args:
        path: The folder asked for, or `None` for `logs/<model>` or the next free
            `logs/<model>-2`.
        model: The name for the default folder.
        resume: Whether a run in the folder is to be continued.
        overwrite: Whether a run in the folder is to be replaced.

    Yields:
        A `pathlib.Path`, locked until the end of the context.

    Raises:
        RunError: If the folder holds a run and neither is set, holds none that could be
            resumed, is in use by another process, or cannot be used.
    """
    any_free = path is None and not (resume or overwrite)
    path = pathlib.Path("logs", model) if path is None else pathlib.Path(path)
    number = 1
    with contextlib.ExitStack() as stack:
        while True:
            try:
                with _usable(path):
                    _claim(stack, path, resume, overwrite)
                break
            except Taken:
                if not any_free:
                    raise
                number += 1
                path = pathlib.Path("logs", f"{model}-{number}")
        yield path


def check(path, model, *, resume=False, overwrite=False):
    """Refuses a folder as `prepare` would, and touches nothing.

    Raises:
        RunError: If the folder cannot be that of a run with these arguments.
    """
    any_free = path is None and not (resume or overwrite)
    path = pathlib.Path("logs", model) if path is None else pathlib.Path(path)
    with _usable(path), contextlib.ExitStack() as stack:
        # Where it is or would be made. A file without a name is none that anybody sees.
        nearest = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        with tempfile.TemporaryFile(dir=nearest):
            pass
        if any_free:
            return
        _check_contents(path, resume, overwrite)
        if (path / LOCK).exists():
            _lock(stack, path)


def make_folder(path):
    """Makes a folder for results, if it is not there.

    Raises:
        RunError: If it cannot be made or written to.
    """
    path = pathlib.Path(path)
    with _usable(path, "--out"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


@contextlib.contextmanager
def _usable(path, flag="--log_dir"):
    """Turns errors of the operating system into `RunError`s."""
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot write to {path}: {error}. Choose another {flag}.") from error


def _claim(stack, path, resume, overwrite):
    """Makes and locks a folder, and empties it of what shall not be there."""
    _check_contents(path, resume, overwrite)
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass
    _lock(stack, path)
    # Again, since another process may have been at work before the lock was ours.
    _check_contents(path, resume, overwrite)
    for folder in (path, *(path / name for name in (CHECKPOINTS, *EVENTS))):
        for leftover in folder.glob(f"{TEMPORARY}*"):
            leftover.unlink()
    if overwrite:
        _remove_run(path)


def _check_contents(path, resume, overwrite):
    if holds_run(path):
        if not (resume or overwrite):
            raise Taken(
                f"{path} already holds a run. Choose another --log_dir, continue the run "
                "with --resume, or replace it with --overwrite."
            )
        return
    if path.is_dir() and not all(
        entry.name == LOCK or entry.name.startswith(TEMPORARY) for entry in path.iterdir()
    ):
        raise RunError(
            f"{path} holds files but no run. Choose an empty or new folder as --log_dir."
        )
    if resume:
        raise RunError(f"{path} holds no run to resume. Leave out --resume to begin one there.")


def _lock(stack, path):
    """Locks a folder for this process until `stack` is closed."""
    file = stack.enter_context(open(path / LOCK, "a+"))  # noqa: SIM115
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read(200).strip()
        raise Taken(
            f"{path} is in use by another process ({owner or 'unknown'}). Wait until it ends, "
            "or choose another --log_dir."
        ) from error
    except OSError as error:
        # Some network file systems have no locks; training there shall be possible.
        print(f"Cannot lock {path}: {error}. Start no second run there.", file=sys.stderr)
        return
    file.truncate(0)
    file.write(f"{os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def read_record(path):
    """The `config.json` of a run that is to be continued.

    Args:
        path: The run directory.

    Returns:
        A dict with at least `"settings"`, a dict, and `"dataset"`, a dict with a `"name"`.

    Raises:
        RunError: If there is no run or its `config.json` cannot be used.
    """
    path = pathlib.Path(path)
    with _usable(path):
        _check_contents(path, resume=True, overwrite=False)
    remedy = f"{path} cannot be resumed; begin anew with --overwrite."
    try:
        record = read_json(path / CONFIG)
    except RunError as error:
        raise RunError(f"{error}. {remedy}") from error
    settings, dataset = record.get("settings"), record.get("dataset")
    if not isinstance(settings, dict) or not isinstance(dataset, dict) or "name" not in dataset:
        raise RunError(f"Expected the settings and data of a run in {path / CONFIG}. {remedy}")
    return record


def check_resume(path, record, settings):
    """Refuses to continue a run with other settings, or one that is finished.

    Only `epochs` may differ from what the run was begun with, and be larger; without a
    schedule of the learning rate, which depends on it.

    Args:
        path: The run directory.
        record: What `read_record` returned for it.
        settings: The settings to continue with, a nested dict.

    Raises:
        OtherSettings: Naming the settings that differ.
        Finished: If nothing is left to do.
    """
    path = pathlib.Path(path)
    # As they would be read back, with lists for tuples.
    new = _flat(json.loads(json.dumps(settings)))
    old = _flat(record["settings"])
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    epochs = [x.get("epochs") for x in (old, new)]
    # A schedule that was made for so many epochs is over then.
    constant = old.get("schedule", "constant") == "constant"
    more = all(isinstance(x, int) for x in epochs) and epochs[0] < epochs[1]
    if "epochs" in names and constant and more:
        names.remove("epochs")
    if names:
        before, now = (", ".join(f"{n}={x.get(n)!r}" for n in names) for x in (old, new))
        raise OtherSettings(
            f"The run in {path} goes on with the settings that it was begun with; only epochs "
            f"may be raised. Expected {before}. Received: {now}. Leave them out, or begin "
            "another run with another --log_dir."
        )
    if (path / METRICS).exists():
        metrics = read_json(path / METRICS)
        ended_early = metrics.get("interrupted") or metrics.get("diverged")
        if not ended_early and metrics.get("epochs") == epochs[1]:
            raise Finished(
                f"The run in {path} is finished: {epochs[1]} epochs. To train on, raise --epochs."
            )


def copy_to_resume(path, copy):
    """Copies what resuming reads of a run, for a process that must not write to it.

    Raises:
        RunError: If it cannot be read.
    """
    path, copy = pathlib.Path(path), pathlib.Path(copy)
    with _usable(path):
        (copy / CHECKPOINTS).mkdir(parents=True)
        for name in (CONFIG, HISTORY, f"{CHECKPOINTS}/{LATEST}"):
            if (path / name).exists():
                shutil.copyfile(path / name, copy / name)


def _flat(settings, prefix=""):
    """A nested dict as one with dots in its names."""
    result = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result.update(_flat(value, f"{prefix}{name}."))
        else:
            result[prefix + name] = value
    return result


def _remove_run(path):
    """Deletes what a run wrote, and nothing else that lies beside it."""
    for name in (*CONTENTS, *(export.split("/")[0] for export in EXPORTS.values())):
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
