"""`EpochLines`: one line an epoch, and how far a long epoch is."""

import sys
import time
from typing import Any

import keras

from tfnode.files import plots
from tfnode.files.history import score_text
from tfnode.layers.solve_costs import counting_layers
from tfnode.solvers.runge_kutta import RungeKutta

TERMINAL_SECONDS, FILE_SECONDS = 0.5, 60.0


class EpochLines(keras.callbacks.Callback):
    """One line an epoch, and how far the epoch is.

    On a terminal that is one line, which is written over. In a file it is a line a minute.
    The evaluations of the solver are in it where they vary, so not with fixed steps.

    Args:
        score: The metric beside the loss, `"accuracy"` or `"rmse"`.
        split: The name of the data that the epochs are tested on.
    """

    def __init__(self, score: str, split: str = "test") -> None:
        super().__init__()
        self.score = score
        self.split = split

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._name = f"epoch {epoch + 1}/{self.params['epochs']}"
        self._begun = self._shown = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now, terminal = time.monotonic(), sys.stdout.isatty()
        if logs and now - self._shown >= (TERMINAL_SECONDS if terminal else FILE_SECONDS):
            self._shown = now
            text = f"{self._name}: step {batch + 1}/{self.params['steps']}, {self._scores(logs)}"
            print(f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", flush=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        parts = [
            self._scores(logs),
            self._scores({k[4:]: v for k, v in logs.items() if k.startswith("val_")}, self.split),
            f"{time.monotonic() - self._begun:.0f} s",
        ]
        if self._varies() and "nfe_forward" in logs:
            parts.append(f"NFE {logs['nfe_forward']:.1f} and {logs['nfe_backward']:.1f}")
        clear = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{clear}{self._name}: {'; '.join(filter(None, parts))}", flush=True)

    def _scores(self, logs: dict[str, Any], split: str = "") -> str:
        split = f"{split} " if split else ""
        parts = [f"{split}loss {float(logs['loss']):.4f}"] if "loss" in logs else []
        if self.score in logs:
            value = score_text(self.score, float(logs[self.score]))
            parts.append(f"{split}{plots.label(self.score)} {value}")
        return ", ".join(parts)

    def _varies(self) -> bool:
        return any(
            not isinstance(block.solver, RungeKutta) or block.solver.adaptive
            for block in counting_layers(self.model)
        )
