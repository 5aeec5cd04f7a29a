"""The lock of a folder."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

import filelock

from tfnode.runs.contents import LOCK
from tfnode.runs.errors import Taken


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], flag: str = "--log_dir") -> Iterator[None]:
    """Lock a folder for this process within the context.

    The lock is the operating system's, so it ends with the process, however that ends.

    Args:
        folder: A folder, in which the file `.lock` is made.
        flag: The flag that names the folder, for the message.

    Raises:
        Taken: If another process has locked the folder.
        OSError: If the file is a link, or cannot be opened.
    """
    path = os.path.join(folder, LOCK)
    if os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    lock = filelock.FileLock(path, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise Taken(
            f"{folder} is in use by another process. Wait until it ends, or choose another {flag}."
        ) from error
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        # Some network file systems have no locks, and training there must be possible.
        print(f"Cannot lock {folder}: {error}. Start no second run there.", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()
