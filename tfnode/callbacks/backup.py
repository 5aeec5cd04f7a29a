"""`Backup`: the state of training after every epoch."""

import os
import pathlib
from typing import Any

import keras

from tfnode.callbacks import checkpoint


class Backup(keras.callbacks.Callback):
    """A file of the state of training after every epoch, which is always whole.

    The file holds the weights of the model, the states of its `keras.random.SeedGenerator`s,
    the variables of the optimizer (moments, steps, learning rate), and the number of finished
    epochs. Metrics are not in it, since an epoch begins without them. Nor are the random
    numbers of NumPy, Python, and TensorFlow's global generator: tfnode does not draw from them
    in training.

    `keras.callbacks.BackupAndRestore` writes weights in place and the epoch's number into a
    second file after them. Killed in between, it goes on from the weights of one epoch with the
    number of another. Its files lack the seed generators, too.

    It belongs after callbacks that write down the epoch, and before those that may only know
    of an epoch that will not be repeated.

    Args:
        path: The `.npz` file; its folder is made where it is missing.

    Example:
    ```python
    backup = tfnode.callbacks.Backup("checkpoints/latest.npz")
    epoch = backup.restore(model) if backup.path.exists() else 0
    model.fit(x, y, epochs=10, initial_epoch=epoch, callbacks=[backup])
    ```
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        checkpoint.write(self.path, self.model, epoch=epoch + 1)

    def restore(self, model: keras.Model) -> int:
        """Put a compiled model into the state of the file.

        Under a `tf.distribute.Strategy`, call it in the scope of the strategy.

        Args:
            model: The same model, with the same optimizer, as was saved.

        Returns:
            The number of finished epochs.

        Raises:
            CheckpointError: If the file cannot be read, or is that of another model; the model is
                as before then.
        """
        arrays, named = checkpoint.read(self.path, model, ("epoch",))
        checkpoint.assign(model, arrays)
        return int(named["epoch"])
