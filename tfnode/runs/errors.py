"""Errors of runs, whose messages are for users of the commands."""

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
