"""The devices to train on, the strategy over several, and its share of every batch."""

import os
import platform
import sys
from typing import Any

import tensorflow as tf

from tfnode.lab import multi_worker
from tfnode.lab.command_line import DRIVER


def use_devices(name: str) -> str:
    """Take the devices that a strategy of that name needs, and return their name for people.

    They are the first GPU, or all GPUs with a strategy, or else the processor. Only as much of a
    GPU's memory is taken as is needed, so that runs can share one. Both can be chosen only before
    TensorFlow computes anything; later they stay as they are.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if DRIVER.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
            print(
                "There is an NVIDIA GPU, but TensorFlow lacks CUDA libraries to use it, so this "
                "is the processor. To install them: pip install 'tfnode[gpu]'",
                file=sys.stderr,
            )
        return f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    try:
        if name == "none":
            tf.config.set_visible_devices(gpus[:1], "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass
    visible = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details
    return "GPU (" + ", ".join(details(g).get("device_name", g.name) for g in visible) + ")"


def strategy(name: str) -> tf.distribute.Strategy | None:
    """Return the `tf.distribute.Strategy` of a setting of that name, or `None` for one device.

    Args:
        name: `"none"`; `"mirrored"`, all devices of this machine; or `"multi_worker"`, those
            of all processes in `TF_CONFIG`. The last one must be made before TensorFlow
            computes anything, and waits for the other processes.

    Raises:
        ConnectionError: If the other processes do not come.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    return multi_worker.connect() if name == "multi_worker" else None


def check_batch_size(strategy: tf.distribute.Strategy | None, batch_size: int) -> None:
    """Raise an error for a batch that replicas cannot share equally.

    Raises:
        ValueError: Naming the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if batch_size % replicas:
        raise ValueError(
            f"batch_size must be a multiple of the number of devices, {replicas}, which share "
            f"every batch. Received: batch_size={batch_size}"
        )


def test_batch_size(strategy: tf.distribute.Strategy | None, batch_size: int, samples: int) -> int:
    """Return the largest size of a batch for which each replica has a sample of the last batch.

    Keras counts samples for its means, and those that fill an empty share, too.
    """
    replicas = strategy.num_replicas_in_sync if strategy else 1
    while 0 < samples % batch_size < replicas:
        batch_size -= 1
    return batch_size


def distribute(
    strategy: tf.distribute.Strategy | None, batches: tf.data.Dataset, *, training: bool
) -> Any:
    """Return the batches as `fit` takes them under a strategy: each replica gets its share.

    The batches are those of one device, whatever the number of replicas and of processes. The
    last batch of an epoch may not be shared equally. It is weighted so that the gradient is that
    of the mean over its samples. A replica without a sample gets one of weight 0. Running
    averages of the loss give such a batch a slightly different weight.

    Args:
        strategy: A strategy, or `None`, for which the batches are returned as they are.
        batches: A `tf.data.Dataset` of `(inputs, targets)`, the same in all processes.
        training: Whether the weights are for gradients. Otherwise every sample weighs the same.

    Returns:
        A dataset of `(inputs, targets, weights)`.
    """
    if strategy is None:
        return batches

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        def share(x: Any, y: Any, replica: Any) -> tuple[Any, Any, Any]:
            size = tf.shape(y, tf.int64)[0]
            begin, end = size * replica // replicas, size * (replica + 1) // replicas
            taken = end - begin
            # Keras takes the mean over the share, and the mean of that over replicas.
            weight = replicas * taken / size
            if not training:
                weight = tf.where(size < replicas, weight, 1.0)
            weight = tf.where(taken > 0, weight, 0.0)
            begin = tf.minimum(begin, size - 1)
            rows = slice(begin, tf.maximum(end, begin + 1))
            x, y = x[rows], y[rows]
            return x, y, tf.fill(tf.shape(y)[:1], tf.cast(weight, tf.float32))

        def local_shares(x: Any, y: Any) -> tf.data.Dataset:
            numbers = tf.data.Dataset.range(first, first + local)
            return numbers.map(lambda replica: share(x, y, replica))

        return batches.flat_map(local_shares).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(shares)
