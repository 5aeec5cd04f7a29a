"""`CurveExport`: loss and score of every epoch, as CSV and PNG."""

import os
import pathlib
import time
from typing import Any

import keras

from tfnode.files import plots
from tfnode.files.history import SCORES, Row, history_columns, read_history, write_history

HISTORY = "history.csv"
CURVES = "curves.png"


class CurveExport(keras.callbacks.Callback):
    """Files of the training curves, `history.csv` and `curves.png`, written after every epoch.

    Args:
        directory: The folder, made where it is missing.
        score: Name of the metric that judges the model beside its loss: `"accuracy"` or
            `"rmse"`.
        elapsed: Seconds that the first epoch took before training was resumed within it.
        title: The title of the figure, such as the model, the data and the seed; `None` for the
            name of the folder.

    The columns of `history.csv`: `epoch` (from 1), `loss`, `accuracy`, `val_loss`,
    `val_accuracy`, `learning_rate`, `seconds`, `nfe_forward`, `nfe_backward`; empty where
    the logs do not have them; with another score, that in place of accuracy. If training
    starts after the first epoch, the earlier rows of an existing file are kept.

    Example:
    ```python
    model.fit(x, y, callbacks=[tfnode.callbacks.CurveExport("logs/mine")])
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        score: str = "accuracy",
        elapsed: float = 0.0,
        title: str | None = None,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {list(SCORES)}. Received: score={score!r}")
        self.score = score
        self.elapsed = elapsed
        self.directory = pathlib.Path(directory)
        self.title = self.directory.name if title is None else title
        self.rows: list[Row] = []
        self._begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._begun:
            self._begun = True
            path = self.directory / HISTORY
            earlier = read_history(path) if epoch > 0 and path.exists() else []
            self.rows = [row for row in earlier if row["epoch"] <= epoch]
            for row in self.rows:
                row["epoch"] = int(row["epoch"])
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {name: (logs or {}).get(name) for name in history_columns(self.score)}
        row["epoch"] = epoch + 1
        row["learning_rate"] = last_learning_rate(self.model.optimizer)
        row["seconds"] = round(self.elapsed + time.perf_counter() - self._start, 3)
        self.elapsed = 0.0
        self.rows.append(row)
        write_history(self.directory / HISTORY, self.rows)
        plots.save_history(self.rows, self.directory / CURVES, self.title)


def last_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the step that an optimizer took last."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # Half precision has one.
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # Keras's own `learning_rate` is that of the next step.
        rate = rate(keras.ops.maximum(optimizer.iterations - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))
