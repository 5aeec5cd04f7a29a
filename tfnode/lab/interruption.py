"""`Interruption`: Ctrl-C and SIGTERM in a training."""

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras

from tfnode import callbacks
from tfnode.runs.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(keras.callbacks.Callback):
    """The end of `fit` after the step in which a signal comes, with a checkpoint of it.

    An exception in the middle of a step would leave a state that is no step's. A signal that
    comes in a validation ends `fit` once the epoch is whole. A second Ctrl-C ends it at once.

    It belongs after `StepBackup`.

    Args:
        directory: The run directory, for the exception.
        step_backup: The callback that writes the checkpoint.
    """

    def __init__(self, directory: pathlib.Path, step_backup: callbacks.StepBackup) -> None:
        super().__init__()
        self.directory = directory
        self.step_backup = step_backup
        self._received: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals of this process within the context."""
        if threading.current_thread() is not threading.main_thread():  # It gets no signals.
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._end_if_asked()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = batch + 1
        # Without logs the step was taken before the run was resumed.
        if self._received is not None and logs and step < self.params["steps"]:
            self.step_backup.save(step)
            self._end_if_asked()

    def _receive(self, number: int, frame: Any) -> None:
        if self._received is not None:
            if number == signal.SIGINT:
                raise Interrupted(self.directory, number)
            return
        self._received = number
        # Python's own streams may be in use at this moment.
        os.write(1, b"\nInterrupted: the step or validation at work is finished first.\n")

    def _end_if_asked(self) -> None:
        if self._received is not None:
            raise Interrupted(self.directory, self._received)
