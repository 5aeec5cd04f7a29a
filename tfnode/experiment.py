"""From a config to a trained model in a run directory."""

import importlib.metadata
import math
import os
import pathlib
import platform
import subprocess
import sys
import time

import keras
import tensorflow as tf

import tfnode
from tfnode import callbacks, data, models, run_dir, settings

PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy")


def run(config, *, log_dir=None, data_dir=None, overwrite: bool = False) -> dict:
    """Trains a model as a config says and writes the run directory.

    Args:
        config: A `ml_collections.ConfigDict` such as the files in `configs/` return.
        log_dir: The run directory; by default `logs/<config.name>` or the next free
            `logs/<config.name>-2`.
        data_dir: Folder of MNIST's files; see `tfnode.data.load`.
        overwrite: Whether a run in `log_dir` may be replaced.

    Returns:
        The contents of `metrics.json`, a dict.

    Raises:
        ValueError: If a setting is unknown or out of range, the data cannot be used, or
            the directory cannot be. Before anything is trained.
        KeyboardInterrupt: After what was done is saved.
    """
    settings.check(config)
    dataset = data.load(config.dataset, data_dir)
    device = _set_up(config)
    strategy = tf.distribute.MirroredStrategy() if config.strategy == "mirrored" else None
    with strategy.scope() if strategy else tf.device(None):
        model = _compiled_model(config)
    # Last, so that no setting is found wrong after an old run is gone.
    directory = run_dir.prepare(log_dir, config.name, overwrite=overwrite)

    run_dir.write_json(directory / run_dir.CONFIG, _record(config, dataset, device))
    _announce(config, dataset, device, model, directory)
    interrupted = False
    try:
        _fit(config, dataset, model, directory)
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted: saving what was done.", flush=True)
    with run_dir.replacing(directory / run_dir.MODEL) as temporary:
        model.save(temporary)
    metrics = _metrics(config, dataset, model, directory, interrupted)
    run_dir.write_json(directory / run_dir.METRICS, metrics)
    _summarise(config, metrics, directory)
    if interrupted:
        raise KeyboardInterrupt
    return metrics


def _set_up(config):
    """Seeds, precision and device; returns what to call the device."""
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Leave the rest of the card to others, and let two runs share one.
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    names = [tf.config.experimental.get_device_details(g).get("device_name", g.name) for g in gpus]
    return "GPU (" + ", ".join(names) + ")"


def _compiled_model(config):
    arguments = {k: v for k, v in config.model.items() if k != "name"}
    model = getattr(models, config.model.name)(**arguments)
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
    )
    return model


def _fit(config, dataset, model, directory):
    steps = dataset.steps(config.batch_size)
    batches = dataset.training_batches(config.batch_size, config.seed)
    # Other batches than those of the first epoch.
    calibration = dataset.training_batches(config.batch_size, config.seed, epoch=config.epochs)
    recalibrate = callbacks.Recalibrate(calibration, steps=min(steps, 100))
    listeners = [
        recalibrate,
        callbacks.SolverStats(),
        callbacks.CurveExport(directory),
        callbacks.SaveBest(directory / run_dir.BEST),
        keras.callbacks.TensorBoard(directory, write_graph=False),
    ]
    try:
        model.fit(
            batches,
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=dataset.test_batches(config.batch_size),
            callbacks=listeners,
            shuffle=False,  # The batches are shuffled already.
            verbose="auto" if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        # In the middle of an epoch the averages lag behind the weights.
        recalibrate.recalibrate()
        raise


def _record(config, dataset, device):
    """What goes into `config.json`."""
    return {
        "settings": config.to_dict(),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "training_samples": len(dataset.y_train),
            "test_samples": len(dataset.y_test),
        },
        "device": device,
        "git_commit": _git_commit(),
        "versions": {
            "tfnode": tfnode.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git_commit():
    """The commit of this code, marked where files differ from it; `None` outside of git."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _announce(config, dataset, device, model, directory):
    if config.dataset == "auto" and dataset.name != "mnist":
        line = "*" * 78
        print(f"{line}\nNOT MNIST: training on {dataset.name} ({dataset.source})\n{line}")
    print(f"device: {device}")
    print(
        f"data: {dataset.name}, {len(dataset.y_train):,} training and "
        f"{len(dataset.y_test):,} test images, from {dataset.source}"
    )
    print(f"model: {config.name} ({model.name}), {model.count_params():,} parameters")
    print(f"results: {directory}", flush=True)


def _metrics(config, dataset, model, directory, interrupted):
    """What goes into `metrics.json`, from the history on disk."""
    path = directory / run_dir.HISTORY
    rows = run_dir.read_history(path) if path.exists() else []
    # JSON has no NaN, which is what a loss that diverged is.
    rows = [{k: v if v is None or math.isfinite(v) else None for k, v in r.items()} for r in rows]
    last = rows[-1] if rows else dict.fromkeys(run_dir.HISTORY_COLUMNS)
    tested = [row for row in rows if row["val_accuracy"] is not None]
    best = max(tested, key=lambda row: row["val_accuracy"], default=last)
    # The first epoch traces and compiles.
    seconds = sorted(row["seconds"] for row in rows[1:] or rows)
    return {
        "name": config.name,
        "dataset": dataset.name,
        "parameters": model.count_params(),
        "epochs": len(rows),
        "interrupted": interrupted,
        "final": last,
        "best": {"epoch": best["epoch"], "val_accuracy": best["val_accuracy"]},
        "median_seconds_per_epoch": seconds[len(seconds) // 2] if seconds else None,
    }


def _summarise(config, metrics, directory):
    final, best = metrics["final"], metrics["best"]
    files = ", ".join(name for name in run_dir.CONTENTS if (directory / name).exists())
    if final["val_accuracy"] is None:
        print(f"{config.name}: no epoch was finished; wrote {directory}/: {files}")
        return
    print(
        f"{config.name}: test accuracy {100 * final['val_accuracy']:.2f} % on "
        f"{metrics['dataset']} after {metrics['epochs']} epochs (best "
        f"{100 * best['val_accuracy']:.2f} % in epoch {best['epoch']:.0f}), "
        f"{metrics['median_seconds_per_epoch']:.1f} s an epoch; wrote {directory}/: {files}"
    )
