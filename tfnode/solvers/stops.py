"""The times on which a step must end, since the dynamics jump or kink there."""

import tensorflow as tf


def inside(t: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the two ends of a step, each moved to the next float towards the other.

    There the dynamics are those of the step, where they jump at its ends.
    """
    return tf.math.nextafter(t, end), tf.math.nextafter(end, t)


def at(stops: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Return the stops, or other numbers, at positions.

    Args:
        stops: `(n,)`, or `(batch, n)`.
        index: int32 tensor, any shape; or `(..., batch)`. Those beyond the end count as the last.
    """
    last = tf.shape(stops)[-1] - 1
    index = tf.minimum(index, last)
    if stops.shape.rank == 1:
        return tf.gather(stops, index)
    if index.shape.rank == 1:
        return tf.gather(stops, index, batch_dims=1)
    return tf.transpose(tf.gather(stops, tf.transpose(index), batch_dims=1))


def latest(stops: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Return the last stop at or before positions, 0 where there is none.

    Args:
        stops: As in `Solve`: for each time the position of the next stop.
        index: int32 tensor like a record of the steps.
    """
    # The times up to the last stop before a position are those whose next stop is not after it.
    if stops.shape.rank == 1:
        found = tf.searchsorted(stops, index, side="right")
    else:
        found = tf.transpose(tf.searchsorted(stops, tf.transpose(index), side="right"))
    return tf.maximum(found - 1, 0)


def count_reached(times: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    """Return how many of the times lie at or before `t`, a scalar or one for each sample."""
    direction = tf.sign(times[..., -1:] - times[..., :1])
    passed = (t[..., tf.newaxis] - times) * direction >= 0.0
    return tf.math.count_nonzero(passed, -1, dtype=tf.int32)
