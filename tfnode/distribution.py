"""The devices to train on: which, the strategy over several, and its share of every batch."""

import os
import pathlib
import platform
import sys

import tensorflow as tf

from tfnode import multi_worker

DRIVER = pathlib.Path("/proc/driver/nvidia/version")


def use_devices(name):
    """Takes the devices that a strategy of that name needs; returns what to call them.

    The first GPU, or all with a strategy, or else the processor. Of a GPU's memory only what
    is needed is taken, so that runs can share one. Both can be chosen only before TensorFlow
    computes anything; in a process where it has, they stay as they are.
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


def strategy(name):
    """The `tf.distribute.Strategy` of a setting of that name, or `None` for one device.

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


def check_batch_size(strategy, batch_size):
    """Refuses a batch that replicas cannot share equally.

    Raises:
        ValueError: Naming the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if batch_size % replicas:
        raise ValueError(
            f"batch_size must be a multiple of the number of devices, {replicas}, which share "
            f"every batch. Received: batch_size={batch_size}"
        )


def test_batch_size(strategy, batch_size, samples):
    """The largest batch up to a size of whose last one there is a sample for each replica.

    Keras counts samples for its means, also those that fill an empty share.
    """
    replicas = strategy.num_replicas_in_sync if strategy else 1
    while 0 < samples % batch_size < replicas:
        batch_size -= 1
    return batch_size


def distribute(strategy, batches, *, training):
    """The batches as `fit` takes them under the strategy: each replica gets its share.

    The batches are those of one device, whatever the number of replicas and of processes.
    A batch that they cannot share equally, the last of an epoch, is weighted so that the
    gradient is that of the mean over its samples; a replica for which there is no sample gets
    one that counts for nothing. Running averages of the loss give such a batch a slightly
    different weight.

    Args:
        strategy: A strategy, or `None`, for which the batches are returned as they are.
        batches: A `tf.data.Dataset` of `(inputs, targets)`, the same in all processes.
        training: Whether the weights shall make gradients right. Otherwise every sample
            weighs the same.

    Returns:
        A dataset of `(inputs, targets, weights)`.
    """
    if strategy is None:
        return batches

    def shares(context):
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        def share(x, y, replica):
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

        def local_shares(x, y):
            numbers = tf.data.Dataset.range(first, first + local)
            return numbers.map(lambda replica: share(x, y, replica))

        return batches.flat_map(local_shares).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(shares)
