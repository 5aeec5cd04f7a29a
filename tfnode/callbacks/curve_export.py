"""`CurveExport`: loss and score of every epoch, as CSV and PNG."""

import pathlib
import time

import keras

from tfnode import plots
from tfnode.history_file import SCORES, history_columns, read_history, write_history
from tfnode.optimization import last_learning_rate
from tfnode.run_dir import CURVES, HISTORY


class CurveExport(keras.callbacks.Callback):
    """Writes `history.csv` and `curves.png` after every epoch, each file whole.

    Args:
        directory: The folder, made where it is missing.
        score: What the model is judged by beside its loss, the name of its metric:
            `"accuracy"` or `"rmse"`.
        elapsed: Seconds that the first epoch took before training was resumed within it.

    The columns of `history.csv`: `epoch` (from 1), `loss`, `accuracy`, `val_loss`,
    `val_accuracy`, `learning_rate`, `seconds`, `nfe_forward`, `nfe_backward`; empty where
    the logs do not have them; with another score, that in place of accuracy. Where training
    starts after the first epoch, the earlier rows of an existing file are kept.

    Example:
    ```python
    model.fit(x, y, callbacks=[tfnode.callbacks.CurveExport("logs/mine")])
    ```
    """

    def __init__(self, directory, score="accuracy", elapsed=0.0):
        super().__init__()
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {list(SCORES)}. Received: score={score!r}")
        self.score = score
        self.elapsed = elapsed
        self.directory = pathlib.Path(directory)
        self.rows = []

    def on_train_begin(self, logs=None):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rows = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.rows is None:
            path = self.directory / HISTORY
            earlier = read_history(path) if epoch > 0 and path.exists() else []
            self.rows = [row for row in earlier if row["epoch"] <= epoch]
            for row in self.rows:
                row["epoch"] = int(row["epoch"])
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {name: (logs or {}).get(name) for name in history_columns(self.score)}
        row["epoch"] = epoch + 1
        row["learning_rate"] = last_learning_rate(self.model.optimizer)
        row["seconds"] = round(self.elapsed + time.perf_counter() - self._start, 3)
        self.elapsed = 0.0
        self.rows.append(row)
        write_history(self.directory / HISTORY, self.rows)
        plots.save_history(self.rows, self.directory / CURVES)
