"""`TensorBoard`: Keras's, for runs that may be killed and resumed."""

import os
import pathlib
from typing import Any

import keras
import tensorflow as tf

from tfnode.files.whole import replacing


class TensorBoard(keras.callbacks.TensorBoard):
    """`keras.callbacks.TensorBoard` that can forget epochs.

    An epoch that a resumed run repeats is in the files of Keras's own callback twice.

    Args:
        log_dir: The folder.
        **kwargs: The arguments of `keras.callbacks.TensorBoard`.
    """

    def __init__(self, log_dir: str | os.PathLike[str], **kwargs: Any) -> None:
        super().__init__(log_dir, **kwargs)
        self.directory = pathlib.Path(log_dir)

    def forget(self, epoch: int, iterations: int) -> None:
        """Take the epochs that will be written again out of the event files, before `fit`.

        Args:
            epoch: The first epoch, from 0, to take out.
            iterations: The steps of the optimizer before that epoch.
        """
        # A folder inside may hold another run, whose files are not this one's.
        folders = (self.directory, self.directory / "train", self.directory / "validation")
        for path in sorted(p for f in folders for p in f.glob("events.out.tfevents.*")):
            kept, all_kept = [], True
            records = iter(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
            while True:
                try:
                    record = next(records)
                except StopIteration:
                    break
                except tf.errors.DataLossError:  # The kill cut it off.
                    all_kept = False
                    break
                event = tf.compat.v1.Event.FromString(record)
                by_iterations = any("_vs_iterations" in v.tag for v in event.summary.value)
                if event.summary.value and (
                    event.step > iterations if by_iterations else event.step >= epoch
                ):
                    all_kept = False
                else:
                    kept.append(record)
            if all_kept:
                continue
            with replacing(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
                for record in kept:
                    writer.write(record)
