"""`StepBackup`: the state of training within an epoch."""

import math
import os
import pathlib
import time
from typing import Any

import keras
import numpy as np

from tfnode.callbacks import checkpoint
from tfnode.callbacks.divergence import not_finite
from tfnode.layers.solve_costs import counting_layers

REMEDY = "Remove it to go on from the end of the last whole epoch."


class StepBackup(keras.callbacks.Callback):
    """A file of the state of training within an epoch, which is always whole.

    The file holds the state that `Backup` saves after an epoch, and the sums of the epoch so far:
    the metrics, the costs of the solves, the steps and the seconds. A killed training loses a
    minute, and the rest goes on as if it had not been killed.

    Nothing is saved where replicas share the training, since each has averages and sums of its
    own. Weights that are not finite are not saved either.

    It belongs after `Backup` and `SolverStats`.

    Args:
        path: The `.npz` file; its folder is made where it is missing.
        seconds: How often to save.

    Attributes:
        step: How many steps of its first epoch `fit` need not take; set by `restore`.
        elapsed: The seconds that they took.

    Example:
    ```python
    steps = tfnode.callbacks.StepBackup("checkpoints/step.npz")
    steps.restore(model, epoch)
    model.fit(batches.skip(steps.step), initial_epoch=epoch, steps_per_epoch=100, callbacks=[steps])
    ```
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float = 60.0) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self.seconds = seconds
        self.step = 0
        self.elapsed = 0.0
        self._sums: tuple[np.ndarray, np.ndarray] | None = None

    def restore(self, model: keras.Model, epoch: int) -> None:
        """Put a compiled model into the state of the file, if the file is that of the epoch.

        `fit` with `initial_epoch=epoch` then counts the steps that were taken before, without
        computing anything and without logs for callbacks. Give it the batches that follow.

        Args:
            model: The same model, with the same optimizer, as was saved.
            epoch: The number of finished epochs.

        Raises:
            CheckpointError: If the file cannot be read, or is that of another model; the model is
                as before then.
        """
        if not self.path.exists():
            return
        names = ("epoch", "step", "elapsed", "metrics", "costs")
        try:
            arrays, named = checkpoint.read(self.path, model, names)
        except checkpoint.CheckpointError as error:
            raise checkpoint.CheckpointError(f"{error} {REMEDY}") from error
        if int(named["epoch"]) != epoch:
            return  # The epoch has been finished.
        checkpoint.assign(model, arrays)
        self.step, self.elapsed = int(named["step"]), float(named["elapsed"])
        self._sums = named["metrics"], named["costs"]
        _skip(model, self.step)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._begun = self._saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not logs:  # The step is skipped.
            return
        if self._sums is not None:
            self._add_sums(*self._sums)
            self._sums = None
        now, step = time.monotonic(), batch + 1
        if step == self.params["steps"] or now - self._saved < self.seconds:
            return
        self.save(step)

    def save(self, step: int) -> None:
        """Save the state after a step of the epoch, from 1, that is not the last one."""
        if self.model.distribute_strategy.num_replicas_in_sync > 1 or not_finite(self.model):
            return
        checkpoint.write(
            self.path,
            self.model,
            epoch=self._epoch,
            step=step,
            elapsed=self.elapsed + time.monotonic() - self._begun,
            metrics=_metrics(self.model),
            costs=_costs(self.model),
        )
        self._saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.elapsed = 0.0
        self.path.unlink(missing_ok=True)

    def _add_sums(self, metrics: np.ndarray, costs: np.ndarray) -> None:
        """Add the sums of before after the first step, in which Keras makes the metrics."""
        if metrics.shape != _metrics(self.model).shape or costs.shape != _costs(self.model).shape:
            raise checkpoint.CheckpointError(
                f"The checkpoint {self.path} is that of other metrics. {REMEDY}"
            )
        variables = _metric_variables(self.model)
        ends = np.cumsum([math.prod(v.shape) for v in variables])
        for variable, values in zip(variables, np.split(metrics, ends[:-1])):
            variable.assign_add(values.reshape(variable.shape).astype(variable.dtype))
        for block, values in zip(counting_layers(self.model), costs):
            block.add_costs(values)


def _skip(model: keras.Model, steps: int) -> None:
    """Have the next so many steps of `fit` do nothing."""
    take = model.make_train_function() or model.train_function
    left = steps

    def skip(iterator: Any) -> Any:
        nonlocal left
        if left == 0:
            model.train_function = take
            return take(iterator)
        left -= 1
        return {}

    model.train_function = skip


def _metric_variables(model: keras.Model) -> list[Any]:
    return [v for metric in model.metrics for v in metric.variables]


def _metrics(model: keras.Model) -> np.ndarray:
    """Return the sums of all metrics in one array."""
    values = [np.ravel(keras.ops.convert_to_numpy(v)) for v in _metric_variables(model)]
    return np.concatenate(values, dtype=np.float64)


def _costs(model: keras.Model) -> np.ndarray:
    """Return the costs of the solves: `(blocks, numbers)`."""
    return np.array([list(block.costs().values()) for block in counting_layers(model)], np.float64)
