"""An experiment: from settings to a trained model in a run directory."""

import contextlib
import io
import os
import pathlib
import tempfile
from typing import Any

import keras
import tensorflow as tf

from tfnode.lab import devices, multi_worker
from tfnode.lab.cluster import cluster
from tfnode.lab.run import Run
from tfnode.lab.settings import Settings
from tfnode.runs.record import copy_to_resume

Path = str | os.PathLike[str]


def run(
    settings: Settings,
    *,
    log_dir: Path | None = None,
    data_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a model as the settings say, and write the run directory.

    Args:
        settings: The settings; the files in `configs/` return some.
        log_dir: The run directory; by default `logs/<settings.name>` or the next free
            `logs/<settings.name>-2`.
        data_dir: Folder of `mnist.npz`; see `tfnode.data.load`.
        resume: Whether to continue the run in `log_dir` from its last checkpoint. That is about
            a minute old, or with a strategy the end of the last whole epoch. Only `epochs` may
            differ from the settings of the run, and be larger.
        overwrite: Whether a run in `log_dir` may be replaced.

    Returns:
        The contents of `metrics.json`, a dict.

    Raises:
        ValueError: If settings contradict each other, the data cannot be used, or the directory
            cannot be. It is raised before anything is trained.
        TrainingError: If the loss is NaN or infinite, or TensorFlow fails. The last whole epoch
            is saved.
        ConnectionError: If another process of a run of several is lost.
        Interrupted: A `KeyboardInterrupt`, after Ctrl-C or SIGTERM, once a checkpoint is written;
            with several processes nothing is.
    """
    settings.check()
    device = _set_up(settings)
    # Loading data may compute something, and a strategy must be made before.
    strategy = devices.strategy(settings.strategy)

    def train(path: Path | None, overwrite: bool) -> dict[str, Any]:
        one = Run(settings, device, strategy)
        one.load(data_dir, (path or pathlib.Path("logs", settings.name)) if resume else None)
        one.build()
        with one.open(path, overwrite):
            return one.train()

    if settings.strategy != "multi_worker":
        return train(log_dir, overwrite)
    with multi_worker.lost_workers_reported():
        if cluster().is_chief:
            return train(log_dir, overwrite)
        # Every process does the same, since parts of it, such as reading the counts of replicas,
        # take all of them. Only the chief keeps the result.
        with tempfile.TemporaryDirectory() as aside, contextlib.redirect_stdout(io.StringIO()):
            copy = pathlib.Path(aside, "run")
            if resume:
                copy_to_resume(log_dir or pathlib.Path("logs", settings.name), copy)
            return train(copy, False)


def _set_up(settings: Settings) -> str:
    """Set seeds, precision and device; return the name of the device."""
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    return devices.use_devices(settings.strategy)
