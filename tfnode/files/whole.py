"""Files that are whole or not there."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

# The name of a file begins with this until the file is whole.
TEMPORARY = ".tmp-"


class FileError(ValueError):
    """A file that cannot be used; the message says what was expected and received."""


def reason(error: Exception) -> str:
    """Return what went wrong, without the number and the path of the operating system's errors."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Write beside a file, then rename over it, so that it is never half-written.

    Args:
        path: The file to replace.

    Yields:
        A temporary path in the same folder and with the same ending, to write to.

    Raises:
        OSError: If the file cannot be written. The old file is as before.
    """
    path = pathlib.Path(path)
    try:
        with _beside(path) as temporary:
            yield temporary
    except OSError as error:
        message = f"Cannot write {path}: {reason(error)}. Is there space left?"
        raise OSError(error.errno, message) from error


@contextlib.contextmanager
def _beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
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


def _umask() -> int:
    """Return the mask for new files, which `mkstemp` does not respect."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_pipe(path: str | os.PathLike[str]) -> None:
    """Raise an error for a pipe, which blocks a reader, and for a device, which has no end.

    Raises:
        OSError: If the path exists and is not a regular file.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
