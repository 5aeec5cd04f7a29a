"""The lock of a folder."""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator

from tfnode.runs.contents import LOCK
from tfnode.runs.errors import Taken

# Errors of file systems that have no locks; some network file systems are such.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], flag: str = "--log_dir") -> Iterator[None]:
    """Lock a folder for this process within the context.

    The lock is the operating system's, so it ends with the process, however that ends. The file
    is opened without following a link, and nothing is written into it.

    Args:
        folder: A folder, in which the file `.lock` is made.
        flag: The flag that names the folder, for the message.

    Raises:
        Taken: If another process has locked the folder.
        OSError: If the file is a link, or cannot be opened.
    """
    path = os.path.join(folder, LOCK)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Taken(
                f"{folder} is in use by another process. Wait until it ends, or choose another "
                f"{flag}."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"Cannot lock {folder}: {error}. Start no second run there.", file=sys.stderr)
        yield
    finally:
        os.close(file)
