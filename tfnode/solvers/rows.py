"""`Rows`: the samples that take part in an evaluation, where each has its own clock."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.solvers.failure import compiled_by_xla


class Rows(NamedTuple):
    """Some of the samples of a batch.

    Attributes:
        own: `(size,)` int32, the samples.
        read: Like `own`, the samples whose states and tensors stand for theirs: they
            themselves, but others for those that failed, whose derivatives may be NaN.
    """

    own: tf.Tensor
    read: tf.Tensor


def chosen(active: tf.Tensor, drop: Any, failed: tf.Tensor | None = None) -> Rows | None:
    """Return the samples to evaluate; `None` for the whole batch as it is.

    XLA knows no shapes that depend on values: there it is the whole batch.

    Args:
        active: `(batch,)`, whether a sample takes a step.
        drop: Whether others may be left out, a boolean or a tensor of one.
        failed: `(batch,)`, the samples whose states must not be evaluated; or `None`.
    """
    every = compiled_by_xla() or drop is False
    if every and failed is None:
        return None
    if every:
        own = tf.range(tf.size(active))
    else:
        own = tf.cast(tf.where(active if drop is True else active | ~drop)[:, 0], tf.int32)
    if failed is None:
        return Rows(own, own)
    return Rows(own, tf.where(tf.gather(failed, own), first_sound(failed), own))


def first_sound(failed: tf.Tensor) -> tf.Tensor:
    """Return the first sample that did not fail; any where all did, and in an empty batch."""
    size = tf.size(failed)
    first = tf.reduce_min(tf.where(failed, size, tf.range(size)))
    return tf.minimum(first, size - 1)


def take(x: tf.Tensor, rows: Rows | None, axis: int = 0) -> tf.Tensor:
    """Return the rows of a tensor of the batch, whose axis is given."""
    return x if rows is None else tf.gather(x, rows.read, axis=axis)


def put(x: tf.Tensor, rows: Rows | None, like: tf.Tensor) -> tf.Tensor:
    """Return the rows as a tensor of the batch, with zeros elsewhere.

    Args:
        x: `(size, ...)`.
        rows: The `Rows`.
        like: `(batch, ...)`.
    """
    if rows is None:
        return x
    numbers = tf.cast(x, tf.int32) if x.dtype == tf.bool else x
    result = tf.scatter_nd(rows.own[:, tf.newaxis], numbers, tf.shape(like))
    result = tf.cast(result, x.dtype)
    result.set_shape(like.shape)
    return result
