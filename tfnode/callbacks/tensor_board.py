"""`TensorBoard`: Keras's, for runs that may be killed and resumed."""

import pathlib

import keras
import tensorflow as tf

from tfnode.run_dir import replacing


class TensorBoard(keras.callbacks.TensorBoard):
    """`keras.callbacks.TensorBoard` that can forget epochs.

    An epoch that a resumed run repeats is in the files of Keras's twice.

    Args:
        log_dir: The folder.
        **kwargs: Those of `keras.callbacks.TensorBoard`.
    """

    def __init__(self, log_dir, **kwargs):
        super().__init__(log_dir, **kwargs)
        self.directory = pathlib.Path(log_dir)

    def forget(self, epoch, iterations):
        """Takes out of the event files what will be written again. Call it before `fit`.

        Args:
            epoch: The first epoch, from 0, of which nothing shall be left.
            iterations: The steps of the optimizer before that epoch.
        """
        for path in sorted(self.directory.rglob("events.out.tfevents.*")):
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
