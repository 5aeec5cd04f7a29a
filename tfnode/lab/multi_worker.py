"""`tf.distribute.MultiWorkerMirroredStrategy` under Keras 3, and errors of lost processes.

Keras 3 cannot `fit` with that strategy (https://github.com/keras-team/keras/issues/20585), in
two places of its TensorFlow trainer: `_maybe_symbolic_build` reduces a batch that is not
distributed, and `reduce_per_replica` reduces scalars along axis 0. `mended` mends them for one
model while it is trained, in the versions of Keras that need it.
"""

import contextlib
import functools
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from tensorflow.python.eager import context

from tfnode.lab.cluster import cluster

# From the first version that we support to the last that was tried.
BROKEN = ((3, 9), (3, 15))
# Seconds that the first process waits for the last one to come.
START_TIMEOUT = 300
# Seconds without a sign of life until a process counts as lost.
HEARTBEAT_TIMEOUT = 30


def connect() -> tf.distribute.Strategy:
    """Return the strategy over the processes in `TF_CONFIG`, once all of them are there.

    Raises:
        ConnectionError: If they do not come in time.
    """
    found = cluster()
    # TensorFlow would log every sum over processes.
    tf.get_logger().setLevel("WARNING")
    print(f"{found.name}: waiting for {found.size} processes", flush=True)
    # The strategy leaves out the timeouts, and the first is then an hour.
    owner = context.context()
    configure = owner.configure_coordination_service
    owner.configure_coordination_service = functools.partial(
        configure,
        cluster_register_timeout_in_ms=1000 * START_TIMEOUT,
        heartbeat_timeout_in_ms=1000 * HEARTBEAT_TIMEOUT,
    )
    try:
        with lost_workers_reported():
            return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        owner.configure_coordination_service = configure


@contextlib.contextmanager
def lost_workers_reported() -> Iterator[None]:
    """Turn TensorFlow's errors about other processes into one that says what to do.

    Raises:
        ConnectionError: Where another process was lost, which ends all the others.
    """
    try:
        yield
    except (
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
        tf.errors.UnavailableError,
        tf.errors.UnknownError,
    ) as error:
        lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
        reason = " ".join(lines[:2])[:300]
        raise ConnectionError(
            "Another process of this run was lost, did not come, or was told of other processes "
            "than this one, so this one ends too. When all can run again, start all of them as "
            f"before, with --resume if the run had begun. Received: {reason}"
        ) from error


@contextlib.contextmanager
def mended(model: keras.Model, strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Make `model.fit` and `model.evaluate` work under a strategy within the context.

    Args:
        model: A compiled Keras model of one input, whose targets are classes, with weights.
        strategy: Its strategy or `None`. Nothing is changed under another one.
    """
    version = tuple(int(x) for x in importlib.metadata.version("keras").split(".")[:2])
    ours = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if strategy is None or not ours or not BROKEN[0] <= version <= BROKEN[1]:
        yield
        return

    def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
        if reduction == "concat":
            return original(values, strategy, reduction)
        return keras.tree.map_structure(
            lambda value: strategy.reduce("MEAN", value, axis=None), values
        )

    original = trainer.reduce_per_replica
    batch = (tf.zeros([1, *model.input_shape[1:]]), tf.zeros([1], tf.int32), tf.ones([1]))
    with strategy.scope():
        model._symbolic_build(data_batch=batch)
    model._maybe_symbolic_build = lambda **arguments: None
    trainer.reduce_per_replica = reduce_per_replica
    try:
        yield
    finally:
        trainer.reduce_per_replica = original
        del model._maybe_symbolic_build
