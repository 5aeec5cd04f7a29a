"""`SaveBest`: the best model so far, as a file that is always whole."""

import math
import pathlib

import keras

from tfnode.run_dir import replacing


class SaveBest(keras.callbacks.Callback):
    """Saves the model whenever a metric is higher than ever.

    `keras.callbacks.ModelCheckpoint` writes in place, so that an interruption leaves half
    a file where a good one was; this writes beside it and renames.

    Args:
        path: The `.keras` file.
        monitor: Name of the metric in the logs, larger is better.
        best: The value to beat.
    """

    def __init__(self, path, monitor="val_accuracy", best=-math.inf):
        super().__init__()
        self.path = pathlib.Path(path)
        self.monitor = monitor
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        if value is not None and value > self.best:
            self.best = value
            self.save(self.model)

    def save(self, model):
        """Saves a model as the best."""
        with replacing(self.path) as temporary:
            model.save(temporary)
