"""`Backup`: what a run that is killed goes on from."""

import pathlib
import re
import zipfile

import keras
import numpy as np

from tfnode.run_dir import RunError, replacing


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
        variables = _variables(self.model)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            np.savez(
                temporary,
                epoch=np.int64(epoch + 1),
                layout=_layout(variables),
                **{str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)},
            )

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
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        try:
            with np.load(self.path, allow_pickle=False) as file:
                epoch, layout = int(file["epoch"]), file["layout"].tolist()
                fits = layout == _layout(variables)
                values = [file[str(i)] for i in range(len(variables))] if fits else []
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"Expected a checkpoint at {self.path}. Received: {error}. Begin anew with "
                "--overwrite."
            ) from error
        if not fits:
            raise RunError(
                f"The checkpoint {self.path} is that of another model or optimizer. Use the "
                "version of tfnode and Keras that wrote it, or begin anew with --overwrite."
            )
        for variable, value in zip(variables, values):
            variable.assign(value)
        return epoch


def _variables(model):
    """All that training changes and the next epoch needs, in an order that is always the same."""
    return [*model.variables, *model.optimizer.variables]


def _layout(variables):
    """What the variables are, without the numbers that Keras adds to names of a process.

    By names and not paths, since those of an optimizer depend on who built it.
    """
    return [
        f"{re.sub('_[0-9]+', '', v.name)} {keras.backend.standardize_dtype(v.dtype)} "
        f"{tuple(v.shape)}"
        for v in variables
    ]
