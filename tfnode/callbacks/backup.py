"""`Backup`: what a run that is killed goes on from."""

import pathlib

import keras

from tfnode.callbacks import checkpoint


class Backup(keras.callbacks.Callback):
    """Saves the state of training after every epoch, as one file that is always whole.

    In the file: the weights of the model, the states of its `keras.random.SeedGenerator`s,
    the variables of the optimizer (moments, steps, learning rate), and the number of
    finished epochs. Not in it, since an epoch begins without them: metrics, and the random
    numbers of NumPy, Python, and TensorFlow's global generator, which nothing in tfnode
    draws from in training.

    `keras.callbacks.BackupAndRestore` writes weights in place and the epoch's number into a
    second file after them, so that killed in between it goes on from the weights of one
    epoch with the number of another; and its files lack the seed generators.

    Give it after callbacks that write down the epoch, and before those that may only know
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

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        checkpoint.write(self.path, self.model, epoch=epoch + 1)

    def restore(self, model) -> int:
        """Puts a compiled model into the state of the file.

        Under a `tf.distribute.Strategy`, call it in the scope of the strategy.

        Args:
            model: The same model, with the same optimizer, as was saved.

        Returns:
            The number of finished epochs.

        Raises:
            RunError: If the file cannot be read, or is that of another model; the model is
                as before then.
        """
        arrays, named = checkpoint.read(
            self.path, model, ("epoch",), "Begin anew with --overwrite."
        )
        checkpoint.assign(model, arrays)
        return int(named["epoch"])
