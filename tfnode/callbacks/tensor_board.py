"""`TensorBoard`: curves for TensorBoard, of runs that may be killed and resumed."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfnode import checks
from tfnode.callbacks.curve_export import last_learning_rate
from tfnode.files.whole import replacing

TRAIN, VALIDATION = "train", "validation"
# The logs of `SolverStats` have one of these endings.
SOLVER = ("_forward", "_backward", "reconstruction_error")


class TensorBoard(keras.callbacks.Callback):
    """Event files of every epoch, and of every eighth step, in `train/` and `validation/`.

    | tag | of | step |
    | --- | --- | --- |
    | `step/loss`, `step/learning_rate` | one step | steps, from 1 |
    | `epoch/loss`, `epoch/learning_rate`, `epoch/<metric>` | an epoch | epochs, from 1 |
    | `solver/<name>` | the costs of `SolverStats`, where they are not 0 | epochs, from 1 |

    `keras.callbacks.TensorBoard` counts epochs from 0, and has no part in resuming: its files
    have the epochs that a resumed run repeats twice.

    It belongs after `SolverStats`.

    Args:
        log_dir: The folder.
        every: A step is written if its number is a multiple of this.

    Example:
    ```python
    model.fit(x, y, callbacks=[tfnode.callbacks.TensorBoard("logs/mine")])
    ```
    """

    def __init__(self, log_dir: str | os.PathLike[str], every: int = 8) -> None:
        super().__init__()
        self.directory = pathlib.Path(log_dir)
        self.every = checks.integer("every", every, 1)
        self._writers: dict[str, Any] = {}
        self._first = 0
        self._before = (0.0, 0.0)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Steps of the epochs before.
        self._first = epoch * (self.params.get("steps") or 0)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._is_due(batch):
            self._before = _sums(self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not logs or not self._is_due(batch):  # Without logs the step is skipped.
            return
        total, count = (a - b for a, b in zip(_sums(self.model), self._before))
        if count > 0:
            rate = last_learning_rate(self.model.optimizer)
            values = {"step/loss": total / count, "step/learning_rate": rate}
            self._write(TRAIN, values, self._first + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        train = {"epoch/learning_rate": last_learning_rate(self.model.optimizer)}
        validation = {}
        for name, value in (logs or {}).items():
            if name.startswith("val_"):
                validation[f"epoch/{name.removeprefix('val_')}"] = value
            elif not name.endswith(SOLVER):
                train[f"epoch/{name}"] = value
            elif value:
                train[f"solver/{name}"] = value
        self._write(TRAIN, train, epoch + 1)
        self._write(VALIDATION, validation, epoch + 1)
        self._flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._flush()

    def write_end(
        self, hparams: Mapping[str, Any], images: Mapping[str, bytes], epochs: int
    ) -> None:
        """Write what is known of a training at its end.

        Args:
            hparams: Names to values, for the tab of hyperparameters.
            images: Tags to the contents of PNG files.
            epochs: The number of finished epochs.
        """
        from tensorboard.plugins.hparams import api

        with self._writer(".").as_default(0):
            shown = (bool, int, float, str)
            api.hparams(
                {name: v if isinstance(v, shown) else str(v) for name, v in hparams.items()}
            )
        with self._writer(VALIDATION).as_default(epochs):
            for tag, content in images.items():
                tf.summary.image(tag, tf.io.decode_png(content)[tf.newaxis])
        self._flush()

    def forget(self, epoch: int, iterations: int) -> None:
        """Take the epochs that will be written again out of the event files, before `fit`.

        Args:
            epoch: The number of epochs to keep.
            iterations: The steps of the optimizer to keep.
        """
        # A folder inside may hold another run, whose files are not this one's.
        folders = (self.directory, self.directory / TRAIN, self.directory / VALIDATION)
        for path in sorted(p for f in folders for p in f.glob("events.out.tfevents.*")):
            kept, all_kept = [], True
            try:
                for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                    event = tf.compat.v1.Event.FromString(record)
                    tags = [value.tag for value in event.summary.value]
                    if all(_stays(tag, event.step, epoch, iterations) for tag in tags):
                        kept.append(record)
                    else:
                        all_kept = False
            except tf.errors.DataLossError:  # The kill cut it off.
                all_kept = False
            if all_kept:
                continue
            with replacing(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
                for record in kept:
                    writer.write(record)

    def _is_due(self, batch: int) -> bool:
        return (self._first + batch + 1) % self.every == 0

    def _write(self, folder: str, values: Mapping[str, Any], step: int) -> None:
        if values:
            with self._writer(folder).as_default(step):
                for tag, value in values.items():
                    tf.summary.scalar(tag, value)

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            path = str(self.directory / folder)
            self._writers[folder] = tf.summary.create_file_writer(path)
        return self._writers[folder]

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


def _sums(model: keras.Model) -> tuple[float, float]:
    """Return the sum of the losses of the epoch so far, and of their weights."""
    metric = next((metric for metric in model.metrics if metric.name == "loss"), None)
    if metric is None or len(metric.variables) != 2:
        return 0.0, 0.0
    total, count = (float(keras.ops.convert_to_numpy(v)) for v in metric.variables)
    return total, count


def _stays(tag: str, step: int, epoch: int, iterations: int) -> bool:
    """Return whether an event is of the part of a training that is not repeated."""
    if tag.startswith("_hparams_"):  # They are written at the end, once more.
        return False
    if tag.startswith("step/") or "_vs_iterations" in tag:
        return step <= iterations
    # Keras's tags, which older versions wrote, count epochs from 0.
    return step < epoch if tag.startswith("epoch_") else step <= epoch
