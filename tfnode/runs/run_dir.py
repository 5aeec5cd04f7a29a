"""A run directory: who may use it."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from tfnode.runs.contents import CONFIG, LOCK, contents, holds_run, is_half, listed
from tfnode.runs.errors import RunError, Taken
from tfnode.runs.files import try_to_write, usable
from tfnode.runs.lock import locked

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
            stack.enter_context(locked(chosen))


def _claim(stack: contextlib.ExitStack, path: pathlib.Path, resume: bool, overwrite: bool) -> None:
    """Make and lock a folder, and remove the files that must not be there."""
    check_contents(path, resume, overwrite)
    path.mkdir(parents=True, exist_ok=True)
    try_to_write(path)
    stack.enter_context(locked(path))
    # Another process may have been at work before this one had the lock.
    check_contents(path, resume, overwrite)
    found = contents(path)
    # The mark of the run goes last, so that a killed process leaves a run that can be replaced.
    for file in sorted(found.own, key=lambda file: file.name == CONFIG):
        if file.name != LOCK and (overwrite or is_half(file.name)):
            (path / file).unlink()
    for folder in found.folders if overwrite else ():
        (path / folder).rmdir()


def check_contents(path: pathlib.Path, resume: bool, overwrite: bool) -> None:
    """Raise an error if the files in a folder do not suit a run with these arguments.

    Raises:
        Taken: If the folder holds a run and neither argument is set.
        RunError: If it holds other files, or no run to resume. With `resume`, other files may lie
            beside those of the run, but no link may have the name of one of them.
    """
    found = contents(path)
    if found.disguised:
        raise RunError(
            f"Expected files and folders of a run in {path}, and no links, which are never "
            f"followed there. Received: {listed(found.disguised)}. Move them away, or choose "
            "another --log_dir."
        )
    if holds_run(path):
        if not (resume or overwrite):
            raise Taken(
                f"{path} already holds a run. Choose another --log_dir, continue the run "
                "with --resume, or replace it with --overwrite."
            )
        if overwrite and found.others:
            raise RunError(
                f"{path} holds files that tfnode did not write: {listed(found.others)}. Nothing "
                "was removed. Move them away, or choose another --log_dir."
            )
        return
    begun = [file for file in found.own if file.name != LOCK and not is_half(file.name)]
    if begun or found.folders or found.others:
        raise RunError(
            f"{path} holds files but no run, whose {CONFIG} names a version of tfnode. Choose an "
            "empty or new folder as --log_dir. Received: "
            f"{listed([*begun, *found.others] or found.folders)}"
        )
    if resume:
        raise RunError(f"{path} holds no run to resume. Leave out --resume to begin one there.")
