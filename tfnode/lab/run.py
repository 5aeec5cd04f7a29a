"""`Run`: one experiment in one run directory."""

import contextlib
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfnode import callbacks, data
from tfnode.callbacks.checkpoint import CheckpointError
from tfnode.callbacks.divergence import not_finite, short
from tfnode.files.history import Row, read_history
from tfnode.files.whole import replacing
from tfnode.lab import devices, multi_worker, pictures, summary
from tfnode.lab.build import Pixels, compiled_model
from tfnode.lab.fit import fit, test_batches
from tfnode.lab.settings import Settings, record_to_resume
from tfnode.runs import contents, run_dir
from tfnode.runs.errors import Interrupted, RunError, TrainingError
from tfnode.runs.files import write_json
from tfnode.runs.record import INPUTS, PIXELS

ADVICE = {
    "optimizer": " --learning_rate sets it.",
    "solver": " --config.model.solver, num_steps and tol set the solver.",
}


class Run:
    """One experiment in one run directory: it loads, builds, opens, trains and finishes.

    Args:
        settings: The settings, checked.
        device: The name of the device, for the record.
        strategy: A `tf.distribute.Strategy`, or `None` for one device.

    Attributes:
        dataset: The data that `fit` sees; the epochs are tested on its test part.
        test: With a validation split the data with the test set, otherwise `None`.
        model: The compiled model.
        directory: The run directory.
        data_dir: The folder of the data that was named, if one was.
        earlier: The rows of the epochs before the run was resumed.
        backup, step_backup: The checkpoints.
        tensor_board: The event files.

    Example:
    ```python
    run = Run(settings, device="CPU")
    run.load()
    run.build()
    with run.open("logs/mine"):
        metrics = run.train()
    ```
    """

    dataset: data.Dataset
    test: data.Dataset | None
    model: keras.Model
    directory: pathlib.Path
    backup: callbacks.Backup
    step_backup: callbacks.StepBackup
    tensor_board: callbacks.TensorBoard

    def __init__(
        self, settings: Settings, device: str, strategy: tf.distribute.Strategy | None = None
    ) -> None:
        self.settings = settings
        self.device = device
        self.strategy = strategy
        self.data_dir: str | os.PathLike[str] | None = None
        self.earlier: list[Row] = []
        self._record: dict[str, Any] | None = None

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> None:
        """Load the data, those of the run in the folder `resume` if that is given.

        Raises:
            ValueError: If the data cannot be had, are other data than those of the run, or the
                run cannot be resumed.
        """
        settings = self.settings
        if resume is not None:
            self._record = record_to_resume(resume, settings)
        name = self._record["dataset"]["name"] if self._record else settings.chosen_data
        self.data_dir = data_dir
        self.dataset = data.load(name, data_dir, **settings.data_options)
        self.test = None
        if self._record and self._record["dataset"].get("sha256") != summary.sha256(self.dataset):
            raise RunError(
                f"The run in {resume} was begun with other data, from "
                f"{self._record['dataset'].get('source')}. Received: {self.dataset.source}"
            )
        # Runs that older versions began go on as they were.
        current = not self._record or self._record.get(INPUTS) == PIXELS
        if settings.kind == "images" and current:
            self.dataset = Pixels(*self.dataset)
        devices.check_batch_size(self.strategy, settings.batch_size)
        if settings.validation:
            # The test part of the data is from here on the held-out part of the training set.
            self.test, self.dataset = self.dataset, self.dataset.hold_out(settings.validation)

    def build(self) -> None:
        """Build and compile the model."""
        with self._scope():
            self.model = compiled_model(self.settings, self.dataset)

    @contextlib.contextmanager
    def open(
        self, log_dir: str | os.PathLike[str] | None = None, overwrite: bool = False
    ) -> Iterator[None]:
        """Take the run directory, and put the model into the state of a run to resume.

        It comes last, so that an old run is replaced only if all else is right.

        Raises:
            RunError: If the folder cannot be used, or the run in it cannot be resumed.
        """
        resume = self._record is not None
        with run_dir.prepare(
            log_dir, self.settings.name, resume=resume, overwrite=overwrite
        ) as self.directory:
            checkpoints = self.directory / contents.CHECKPOINTS
            self.backup = callbacks.Backup(checkpoints / contents.LATEST)
            self.step_backup = callbacks.StepBackup(checkpoints / contents.STEP)
            self.tensor_board = callbacks.TensorBoard(self.directory)
            if resume:
                self._restore()
            record = summary.record(self, self._record)
            write_json(self.directory / contents.CONFIG, record)
            # The metrics of an interrupted run are no longer true.
            (self.directory / contents.METRICS).unlink(missing_ok=True)
            summary.announce(self)
            yield

    def train(self) -> dict[str, Any]:
        """Train, write down how the training ended, and return the metrics.

        Raises:
            TrainingError: If the loss is not finite, or TensorFlow fails. The last whole epoch is
                saved.
            Interrupted: After the training so far is saved.
        """
        tested = None
        try:
            fit(self)
            if self.test is not None:
                tested = self._evaluate(self.test)
        except (KeyboardInterrupt, tf.errors.OpError, callbacks.Diverged) as error:
            if self.settings.strategy == "multi_worker" and not isinstance(
                error, callbacks.Diverged
            ):
                raise  # Saving takes all processes, and some may be gone.
            kept = self._save_what_is_good(error)
            ending = "diverged" if isinstance(error, callbacks.Diverged) else "interrupted"
            metrics = self._finish(ending, None)
            if isinstance(error, Interrupted):
                raise
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(self.directory, signal.SIGINT) from error
            raise TrainingError(self._failure(error, kept, metrics)) from error
        self._save()
        pictures.write(self)
        return self._finish("finished", tested)

    def _restore(self) -> None:
        """Put the model into the state of the checkpoints, and read the epochs before."""
        try:
            with self._scope():
                epoch = self.backup.restore(self.model) if self.backup.path.exists() else 0
                self.step_backup.restore(self.model, epoch)
        except CheckpointError as error:
            raise RunError(f"{error} Or begin again with --overwrite.") from error
        path = self.directory / contents.HISTORY
        rows = read_history(path) if epoch or path.exists() else []
        # A run may have been killed after it wrote down an epoch, and before the checkpoint.
        whole = [*range(1, epoch + 1)], [*range(1, epoch + 2)]
        if [row["epoch"] for row in rows] not in whole:
            raise RunError(
                f"Expected the epochs 1 to {epoch} in {path}, as in the checkpoint beside it. "
                f"Received: {len(rows)} rows. The run cannot be resumed; begin again with "
                "--overwrite."
            )
        self.earlier = rows[:epoch]

    def _evaluate(self, dataset: data.Dataset) -> dict[str, float]:
        """Return the loss and the score on the test part of a data set."""
        tests, steps = test_batches(self, dataset)
        with multi_worker.mended(self.model, self.strategy):
            logs = self.model.evaluate(tests, steps=steps, verbose=0, return_dict=True)
        return {name: float(logs[name]) for name in ("loss", dataset.score)}

    def _save_what_is_good(self, error: BaseException) -> int | None:
        """Save the model of an interrupted training; return the epoch if it is an earlier one."""
        by_hand = isinstance(error, KeyboardInterrupt)
        if by_hand:
            print("Interrupted: saving the training so far.", flush=True)
        kept = None
        if not (by_hand and not not_finite(self.model)):
            if not self.backup.path.exists():
                return None
            # The weights may be broken, or updated in part.
            with self._scope():
                kept = self.backup.restore(self.model)
                callbacks.AverageWeights(self.model).put_in()
        self._save()
        return kept

    def _failure(self, error: BaseException, kept: int | None, metrics: dict[str, Any]) -> str:
        if isinstance(error, callbacks.Diverged):
            message = f"{error}{ADVICE.get(error.blamed or '', '')}"
        else:
            message = f"TensorFlow failed: {short(error)}"
        if not kept:
            return f"{message} No epoch was finished, so no model was saved."
        return (
            f"{message} {self.directory / contents.MODEL} is the model after epoch {kept}, "
            f"{contents.BEST} the one after epoch {metrics['best']['epoch']:.0f}."
        )

    def _finish(self, ending: str, tested: dict[str, float] | None) -> dict[str, Any]:
        metrics = summary.metrics(self, ending)
        if self.test is not None:
            metrics["test"] = tested
        write_json(self.directory / contents.METRICS, metrics)
        summary.summarise(self, metrics)
        return metrics

    def _save(self) -> None:
        with replacing(self.directory / contents.MODEL) as temporary:
            self.model.save(temporary)

    def _scope(self) -> contextlib.AbstractContextManager[Any]:
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()
