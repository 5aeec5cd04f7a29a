"""A run directory: the names of its files, and who may use it."""

import contextlib
import errno
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

import filelock

from tfnode.files.whole import TEMPORARY
from tfnode.runs.errors import RunError, Taken
from tfnode.runs.files import try_to_write, usable

CONFIG = "config.json"
HISTORY = "history.csv"
CURVES = "curves.png"
METRICS = "metrics.json"
MODEL = "model.keras"
BEST = "best.keras"
CHECKPOINTS = "checkpoints"
# In the folder of checkpoints: after the last whole epoch, and within the epoch after it.
LATEST = "latest.npz"
STEP = "step.npz"
EVENTS = ("train", "validation")
# The artefacts of tfnode.export. The 1 is the version for TensorFlow Serving.
EXPORTS = {"saved_model": "saved_model/1", "onnx": "model.onnx", "tflite": "model.tflite"}
LOCK = ".lock"
CONTENTS = (CONFIG, HISTORY, CURVES, METRICS, MODEL, BEST, CHECKPOINTS, *EVENTS)

Path = str | os.PathLike[str]


@contextlib.contextmanager
def prepare(
    path: Path | None, model: str, *, resume: bool = False, overwrite: bool = False
) -> Iterator[pathlib.Path]:
    """Choose, make and lock the folder of a run, so that two runs never share one.

    The lock is the operating system's, so it ends with the process, however that ends.
    Files that a killed process left half-written are removed.

    Args:
        path: The folder, or `None` for `logs/<model>` or the next free `logs/<model>-2`.
        model: The name for the default folder.
        resume: Whether a run in the folder is to be continued.
        overwrite: Whether a run in the folder is to be replaced.

    Yields:
        The folder, locked until the end of the context.

    Raises:
        RunError: If the folder holds a run and neither is set, holds no run to resume, is in
            use by another process, or cannot be used.
    """
    any_free = path is None and not (resume or overwrite)
    chosen = pathlib.Path("logs", model) if path is None else pathlib.Path(path)
    number = 1
    with contextlib.ExitStack() as stack:
        while True:
            try:
                with usable(chosen):
                    _claim(stack, chosen, resume, overwrite)
                break
            except Taken:
                if not any_free:
                    raise
                number += 1
                chosen = pathlib.Path("logs", f"{model}-{number}")
        yield chosen


def check(path: Path | None, model: str, *, resume: bool = False, overwrite: bool = False) -> None:
    """Raise the errors of `prepare`, and touch nothing.

    Raises:
        RunError: If the folder cannot be that of a run with these arguments.
    """
    chosen = pathlib.Path("logs", model) if path is None else pathlib.Path(path)
    with usable(chosen), contextlib.ExitStack() as stack:
        # The folder may be missing, so the nearest one above it is tried.
        try_to_write(next(p for p in (chosen, *chosen.absolute().parents) if os.path.lexists(p)))
        if path is None and not (resume or overwrite):
            return
        check_contents(chosen, resume, overwrite)
        if (chosen / LOCK).exists():
            _lock(stack, chosen)


def holds_run(path: Path) -> bool:
    """Return whether a folder holds a run, or the beginning of one.

    Folders named `train` or `validation` alone are no sign of a run.
    """
    names = (CONFIG, HISTORY, CURVES, METRICS, MODEL, BEST)
    return any((pathlib.Path(path) / name).is_file() for name in names)


def _claim(stack: contextlib.ExitStack, path: pathlib.Path, resume: bool, overwrite: bool) -> None:
    """Make and lock a folder, and remove the files that must not be there."""
    check_contents(path, resume, overwrite)
    path.mkdir(parents=True, exist_ok=True)
    try_to_write(path)
    _lock(stack, path)
    # Another process may have been at work before this one had the lock.
    check_contents(path, resume, overwrite)
    for folder in (path, *(path / name for name in (CHECKPOINTS, *EVENTS))):
        for leftover in folder.glob(f"{TEMPORARY}*"):
            leftover.unlink()
    if overwrite:
        _remove_run(path)


def check_contents(path: pathlib.Path, resume: bool, overwrite: bool) -> None:
    """Raise an error if the files in a folder do not suit a run with these arguments.

    Raises:
        Taken: If the folder holds a run and neither argument is set.
        RunError: If it holds other files, or no run to resume.
    """
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


def _lock(stack: contextlib.ExitStack, path: pathlib.Path) -> None:
    """Lock a folder for this process until `stack` is closed."""
    try:
        stack.enter_context(filelock.FileLock(path / LOCK, blocking=False))
    except filelock.Timeout as error:
        raise Taken(
            f"{path} is in use by another process. Wait until it ends, or choose another --log_dir."
        ) from error
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        # Some network file systems have no locks, and training there must be possible.
        print(f"Cannot lock {path}: {error}. Start no second run there.", file=sys.stderr)


def _remove_run(path: pathlib.Path) -> None:
    """Delete the files of a run, and nothing else that lies beside them."""
    for name in (*CONTENTS, *(export.split("/")[0] for export in EXPORTS.values())):
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
