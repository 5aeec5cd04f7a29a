"""`SaveBest`: the best model so far, as a file that is always whole."""

import math
import os
import pathlib
from typing import Any

import keras

from tfnode.files.whole import replacing


class SaveBest(keras.callbacks.Callback):
    """A file of the best model so far, saved whenever a metric is better than ever.

    `keras.callbacks.ModelCheckpoint` writes in place, so an interruption leaves half a file in
    place of a good one. This callback writes beside the file and renames.

    Args:
        path: The `.keras` file.
        monitor: Name of the metric in the logs.
        best: The value to beat; by default any number does.
        mode: `"max"` where larger is better, `"min"` where smaller is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_accuracy",
        best: float | None = None,
        mode: str = "max",
    ) -> None:
        super().__init__()
        if mode not in ("max", "min"):
            raise ValueError(f"`mode` must be 'max' or 'min'. Received: mode={mode!r}")
        self.path = pathlib.Path(path)
        self.monitor = monitor
        self.mode = mode
        worst = -math.inf if mode == "max" else math.inf
        self.best = worst if best is None else best

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            return
        if value > self.best if self.mode == "max" else value < self.best:
            self.best = value
            self.save(self.model)

    def save(self, model: keras.Model) -> None:
        """Save a model as the best."""
        with replacing(self.path) as temporary:
            model.save(temporary)
