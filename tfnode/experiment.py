"""From a config to a trained model in a run directory."""

import contextlib
import io
import pathlib
import sys
import tempfile

import keras
import tensorflow as tf

from tfnode import (
    callbacks,
    data,
    distribution,
    history_file,
    losses,
    metrics,
    models,
    multi_worker,
    optimization,
    run_dir,
    settings,
    summary,
)
from tfnode.callbacks.divergence import not_finite, short

# An epoch that no run comes to: its batches are in another order than any it trains on.
CALIBRATION_EPOCH = 2**31


class TrainingError(RuntimeError):
    """Training that could not go on; the message says why and what is left of it."""


def run(config, *, log_dir=None, data_dir=None, resume=False, overwrite=False) -> dict:
    """Trains a model as a config says and writes the run directory.

    Args:
        config: A `ml_collections.ConfigDict` such as the files in `configs/` return.
        log_dir: The run directory; by default `logs/<config.name>` or the next free
            `logs/<config.name>-2`.
        data_dir: Folder of MNIST's files; see `tfnode.data.load`.
        resume: Whether to go on with the run in `log_dir`, from its last checkpoint: about a
            minute old, or with a strategy the end of the last whole epoch. Only `epochs` may
            differ from what it was begun with, and be larger.
        overwrite: Whether a run in `log_dir` may be replaced.

    Returns:
        The contents of `metrics.json`, a dict.

    Raises:
        ValueError: If a setting is unknown or out of range, the data cannot be used, or
            the directory cannot be. Before anything is trained.
        TrainingError: If the loss is NaN or infinite, or TensorFlow fails, after the last
            whole epoch is saved.
        ConnectionError: If another process of a run of several is lost.
        KeyboardInterrupt: After what was done is saved; not with several processes.
    """
    settings.check(config)
    device = _set_up(config)
    # Before TensorFlow computes anything, which loading may do.
    strategy = distribution.strategy(config.strategy)
    setup = config, strategy, device, data_dir
    if config.strategy != "multi_worker":
        return _run(*setup, log_dir, resume, overwrite)
    with multi_worker.lost_workers_reported():
        if settings.cluster().is_chief:
            return _run(*setup, log_dir, resume, overwrite)
        # Every process does the same, which saves asking who does what: some of it, such as
        # reading what replicas have counted, takes all of them. One of them keeps the result.
        with tempfile.TemporaryDirectory() as aside, contextlib.redirect_stdout(io.StringIO()):
            copy = pathlib.Path(aside, "run")
            if resume:
                run_dir.copy_to_resume(log_dir or pathlib.Path("logs", config.name), copy)
            return _run(*setup, copy, resume, False)


def _run(config, strategy, device, data_dir, log_dir, resume, overwrite):
    record = None
    if resume:
        path = log_dir or pathlib.Path("logs", config.name)
        record = run_dir.read_record(path)
        record["settings"] = settings.complete(record["settings"])
        run_dir.check_resume(path, record, settings.complete(config.to_dict()))
    dataset = data.load(
        record["dataset"]["name"] if record else settings.data_set(config),
        data_dir,
        **config.get("data", {}),
    )
    if record and record["dataset"].get("sha256") != summary.sha256(dataset):
        raise run_dir.RunError(
            f"The run in {path} was begun with other data, from "
            f"{record['dataset'].get('source')}. Received: {dataset.source}"
        )
    distribution.check_batch_size(strategy, config.batch_size)
    test, validation = None, config.get("validation", 0.0)
    if validation:
        # From here on the data set's test part is that of the training set which is held out.
        test, dataset = dataset, dataset.hold_out(validation)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = _compiled_model(config, dataset)
    # Last, so that no setting is found wrong after an old run is gone.
    with run_dir.prepare(log_dir, config.name, resume=resume, overwrite=overwrite) as directory:
        backup = callbacks.Backup(directory / run_dir.CHECKPOINTS / run_dir.LATEST)
        step_backup = callbacks.StepBackup(directory / run_dir.CHECKPOINTS / run_dir.STEP)
        with strategy.scope() if strategy else contextlib.nullcontext():
            epoch = backup.restore(model) if resume and backup.path.exists() else 0
            if resume:
                step_backup.restore(model, epoch)
        earlier = _earlier_epochs(directory, epoch) if resume else []
        record = summary.record(config, dataset, test, device, record, epoch, step_backup.step)
        run_dir.write_json(directory / run_dir.CONFIG, record)
        # Of the run before it was resumed.
        (directory / run_dir.METRICS).unlink(missing_ok=True)
        summary.announce(config, dataset, test, device, model, directory, epoch, step_backup.step)
        backups = backup, step_backup
        return _train(config, dataset, test, model, directory, strategy, backups, earlier)


def _earlier_epochs(directory, epoch):
    """The rows of the epochs that a run has finished, of which the checkpoint knows."""
    path = directory / run_dir.HISTORY
    rows = history_file.read_history(path) if epoch or path.exists() else []
    # Killed after it wrote down an epoch, and before the checkpoint, it repeats that epoch.
    if [row["epoch"] for row in rows] not in (
        [*range(1, epoch + 1)],
        [*range(1, epoch + 2)],
    ):
        raise run_dir.RunError(
            f"Expected the epochs 1 to {epoch} in {path}, as in the checkpoint beside it. "
            f"Received: {len(rows)} rows. The run cannot be resumed; begin anew with --overwrite."
        )
    return rows[:epoch]


def _train(config, dataset, test, model, directory, strategy, backups, earlier):
    """Trains, and writes down how it ended; returns the metrics."""
    ending, error, tested = "finished", None, None
    backup, _ = backups
    try:
        _fit(config, dataset, model, directory, strategy, backups, earlier)
        if test is not None:
            tested = _evaluate(config, test, model, strategy)
    except (KeyboardInterrupt, tf.errors.OpError) as broken_off:
        if config.strategy == "multi_worker":
            raise  # Saving takes all processes, and some may be gone.
        ending, error = "interrupted", broken_off
    except callbacks.Diverged as diverged:
        ending, error = "diverged", diverged
    by_hand = isinstance(error, KeyboardInterrupt)
    if by_hand:
        print("\nInterrupted: saving what was done.", flush=True)
    kept = None
    if error is None or (by_hand and not not_finite(model)):
        _save(model, directory)
    elif backup.path.exists():
        # The weights of now may be broken, or updated in part.
        with strategy.scope() if strategy else contextlib.nullcontext():
            kept = backup.restore(model)
            callbacks.AverageWeights(model).put_in()
        _save(model, directory)
    metrics = summary.metrics(config, dataset, model, directory, ending)
    if test is not None:
        metrics["test"] = tested
    run_dir.write_json(directory / run_dir.METRICS, metrics)
    summary.summarise(config, dataset, metrics, directory)
    if by_hand:
        raise error
    if error is not None:
        what = str(error) if ending == "diverged" else f"TensorFlow failed: {short(error)}"
        left = "No epoch was finished, so no model was saved."
        if kept:
            left = (
                f"{directory / run_dir.MODEL} is the model after epoch {kept}, "
                f"{run_dir.BEST} the one after epoch {metrics['best']['epoch']:.0f}."
            )
        raise TrainingError(f"{what} {left}") from error
    return metrics


def _save(model, directory):
    with run_dir.replacing(directory / run_dir.MODEL) as temporary:
        model.save(temporary)


def _set_up(config):
    """Seeds, precision and device; returns what to call the device."""
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    return distribution.use_devices(config.strategy)


def _compiled_model(config, dataset):
    arguments = {k: v for k, v in config.model.to_dict().items() if k != "name"}
    model = getattr(models, config.model.name)(**arguments)
    if config.model.name in settings.SERIES:
        # Models know the noise, as in the paper's own code.
        loss, score = losses.GaussianLikelihood(config.data.noise), metrics.RootMeanSquaredError()
    else:
        loss, score = keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"
    model.compile(
        optimizer=optimization.optimizer(config, config.epochs * dataset.steps(config.batch_size)),
        loss=loss,
        weighted_metrics=[score],  # Samples weigh the same but under a strategy.
        jit_compile=config.jit_compile,
    )
    return model


def _tests(config, dataset, strategy):
    """The test set as `fit` and `evaluate` take it, and its number of batches."""
    size = distribution.test_batch_size(strategy, config.batch_size, len(dataset.y_test))
    # Without end, since Keras looks at a batch more where replicas share them.
    batches = dataset.test_batches(size).repeat()
    distributed = distribution.distribute(strategy, batches, training=False)
    return distributed, -(-len(dataset.y_test) // size)


def _evaluate(config, dataset, model, strategy):
    """The loss and the score on the test set."""
    tests, steps = _tests(config, dataset, strategy)
    with multi_worker.mended(model, strategy):
        logs = model.evaluate(tests, steps=steps, verbose=0, return_dict=True)
    return {name: float(logs[name]) for name in ("loss", dataset.score)}


def _fit(config, dataset, model, directory, strategy, backups, earlier):
    epoch = len(earlier)
    backup, step_backup = backups
    steps = dataset.steps(config.batch_size)
    tests, test_steps = _tests(config, dataset, strategy)
    amounts = config.get("augmentation", {})
    augmentation = data.Augmentation(**amounts) if any(amounts.values()) else None

    def batches(epoch):
        return dataset.training_batches(
            config.batch_size, config.seed, epoch=epoch, augmentation=augmentation
        )

    average = callbacks.AverageWeights(model)
    recalibrate = callbacks.Recalibrate(batches(CALIBRATION_EPOCH), steps=min(steps, 100))
    divergence = callbacks.Divergence(batches)
    tensor_board = callbacks.TensorBoard(directory, write_graph=False)
    tensor_board.forget(epoch, int(keras.ops.convert_to_numpy(model.optimizer.iterations)))
    score, best = f"val_{dataset.score}", history_file.best_row(earlier)
    save_best = callbacks.SaveBest(
        directory / run_dir.BEST, score, best and best[score], history_file.SCORES[dataset.score]
    )
    if best and best["epoch"] == epoch and not step_backup.step:
        # Perhaps killed between the checkpoint and this.
        average.put_in()
        save_best.save(model)
        average.take_out()
    listeners = [
        callbacks.SolverStats(),
        divergence,
        # What these write of an epoch that has no checkpoint yet is taken back on resuming.
        callbacks.CurveExport(directory, dataset.score, step_backup.elapsed),
        tensor_board,
        backup,
        step_backup,
        average,
        recalibrate,
        save_best,
    ]
    try:
        with multi_worker.mended(model, strategy):
            model.fit(
                distribution.distribute(
                    strategy, batches(epoch).skip(step_backup.step), training=True
                ),
                initial_epoch=epoch,
                epochs=config.epochs,
                steps_per_epoch=steps,
                validation_data=tests,
                validation_steps=test_steps,
                callbacks=listeners,
                shuffle=False,  # The batches are shuffled already.
                verbose="auto" if sys.stdout.isatty() else 2,
            )
    except KeyboardInterrupt:
        # In the middle of an epoch the averages lag behind the weights.
        if config.strategy != "multi_worker":
            average.put_in()
            recalibrate.recalibrate()
        raise
    except tf.errors.InvalidArgumentError as error:
        diverged = divergence.explain(error)
        if diverged is None:
            raise
        raise diverged from error
