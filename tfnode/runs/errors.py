"""Errors of runs, whose messages are for users of the commands."""

import os
import pathlib

from tfnode.files.whole import FileError


class RunError(FileError):
    """A run directory that cannot be used; the message says what to do."""


class OtherSettings(RunError):
    """Settings that are not those of the run that they should continue."""


class Finished(RunError):
    """A run with nothing left to do."""


class Taken(RunError):
    """A run directory that belongs to another run."""


class TrainingError(RuntimeError):
    """A training that could not go on; the message says why and what is left of it."""


class Interrupted(KeyboardInterrupt):
    """A training that a signal has ended, and that can be resumed.

    Attributes:
        directory: The run directory.
        signal: The number of the signal.
    """

    def __init__(self, directory: str | os.PathLike[str], signal: int) -> None:
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.signal = signal
