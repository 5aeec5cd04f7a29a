"""JSON files and folders of runs."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from tfnode.files.whole import reason, refuse_pipe, replacing
from tfnode.runs.errors import RunError


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, sort_keys=True) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RunError: If the file is missing or is not a JSON object.
    """
    try:
        refuse_pipe(path)
        text = pathlib.Path(path).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"Expected a JSON file at {path}. Received: {reason(error)}") from error
    if not isinstance(value, dict):
        raise RunError(f"Expected a JSON object in {path}. Received: {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def open_log(path: str | os.PathLike[str]) -> IO[str]:
    """Open a file to append text to it, but never through a link.

    Raises:
        OSError: If the path is a link, or the file cannot be opened.
    """
    return open(path, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


def refuse_link(path: str | os.PathLike[str]) -> None:
    """Raise a `RunError` for a link, through which a library would write."""
    if os.path.islink(path):
        raise RunError(f"Expected a file or nothing, and no link. Received: {path}. Move it away.")


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder for results where it is missing.

    Raises:
        RunError: If the folder cannot be made or written to.
    """
    with usable(path, "--out"):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        try_to_write(path)


def try_to_write(folder: str | os.PathLike[str]) -> None:
    """Raise an `OSError` if no file can be made in a folder."""
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextlib.contextmanager
def usable(path: str | os.PathLike[str], flag: str = "--log_dir") -> Iterator[None]:
    """Turn errors of the operating system into `RunError`s that name the flag."""
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot write to {path}: {error}. Choose another {flag}.") from error
