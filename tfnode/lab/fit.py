"""`fit` of a run: its batches and its callbacks."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfnode import callbacks, data
from tfnode.files import plots
from tfnode.files.history import SCORES, best_row
from tfnode.gradients.reconstruction import CoarseAdjointWarning
from tfnode.lab import devices, multi_worker
from tfnode.lab.epoch_lines import EpochLines
from tfnode.lab.interruption import Interruption
from tfnode.runs import contents

if TYPE_CHECKING:
    from tfnode.lab.run import Run

# No run has this epoch, so its batches are in another order than any that is trained on.
CALIBRATION_EPOCH = 2**31


def fit(run: "Run") -> None:
    """Train the model of a run from its first epoch, or from the one that it is resumed in.

    Raises:
        Diverged: If the loss is not finite.
        KeyboardInterrupt: After the model is put into a state that can be saved.
    """
    settings, model = run.settings, run.model
    epoch = len(run.earlier)
    steps = run.dataset.steps(settings.batch_size)
    tests, test_steps = test_batches(run, run.dataset)
    amounts = settings.augmentation.to_dict()
    augmentation = data.Augmentation(**amounts) if any(amounts.values()) else None

    def batches(epoch: int) -> tf.data.Dataset:
        return run.dataset.training_batches(
            settings.batch_size, settings.seed, epoch=epoch, augmentation=augmentation
        )

    average = callbacks.AverageWeights(model)
    recalibrate = callbacks.Recalibrate(batches(CALIBRATION_EPOCH), steps=min(steps, 100))
    divergence = callbacks.Divergence(batches)
    run.tensor_board.forget(epoch, int(keras.ops.convert_to_numpy(model.optimizer.iterations)))
    interruption = Interruption(run.directory, run.step_backup)
    listeners = [
        callbacks.SolverStats(),
        divergence,
        # An epoch without a checkpoint is taken out of their files when the run is resumed.
        callbacks.CurveExport(
            run.directory,
            run.dataset.score,
            run.step_backup.elapsed,
            plots.origin([settings.name, run.dataset.name], [settings.seed]),
        ),
        run.tensor_board,
        run.backup,
        run.step_backup,
        interruption,
        average,
        recalibrate,
        _save_best(run, average),
        EpochLines(run.dataset.score, "test" if run.test is None else "validation"),
    ]
    try:
        with (
            multi_worker.mended(model, run.strategy),
            interruption.listening(),
            _known_to_be_coarse(settings.coarse_adjoint),
        ):
            model.fit(
                devices.distribute(
                    run.strategy, batches(epoch).skip(run.step_backup.step), training=True
                ),
                initial_epoch=epoch,
                epochs=settings.epochs,
                steps_per_epoch=steps,
                validation_data=tests,
                validation_steps=test_steps,
                callbacks=listeners,
                shuffle=False,  # The batches are shuffled already.
                verbose=0,  # `EpochLines` shows the epochs.
            )
    except KeyboardInterrupt:
        # In the middle of an epoch the averages lag behind the weights.
        if settings.strategy != "multi_worker":
            average.put_in()
            recalibrate.recalibrate()
        raise
    except tf.errors.InvalidArgumentError as error:
        diverged = divergence.explain(error)
        if diverged is None:
            raise
        raise diverged from error


@contextlib.contextmanager
def _known_to_be_coarse(known: bool) -> Iterator[None]:
    """Leave out the warning of a coarse adjoint where the settings say that they mean it."""
    with warnings.catch_warnings():
        if known:
            warnings.simplefilter("ignore", CoarseAdjointWarning)
        yield


def test_batches(run: "Run", dataset: data.Dataset) -> tuple[Any, int]:
    """Return the test set as `fit` and `evaluate` take it, and its number of batches."""
    size = devices.test_batch_size(run.strategy, run.settings.batch_size, len(dataset.y_test))
    # It has no end, since Keras looks at a batch more where replicas share them.
    batches = dataset.test_batches(size).repeat()
    distributed = devices.distribute(run.strategy, batches, training=False)
    return distributed, -(-len(dataset.y_test) // size)


def _save_best(run: "Run", average: callbacks.AverageWeights) -> callbacks.SaveBest:
    name, best = f"val_{run.dataset.score}", best_row(run.earlier)
    result = callbacks.SaveBest(
        run.directory / contents.BEST,
        name,
        best[name] if best else None,
        SCORES[run.dataset.score],
    )
    if best and best["epoch"] == len(run.earlier) and not run.step_backup.step:
        # The run may have been killed between the checkpoint and this.
        average.put_in()
        result.save(run.model)
        average.take_out()
    return result
