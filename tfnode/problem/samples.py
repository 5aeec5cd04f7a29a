"""The times and tensors of independent samples: one row for each."""

from collections.abc import Sequence

import tensorflow as tf

from tfnode.solvers.failure import checked


def by_sample(
    times: tf.Tensor, y0: Sequence[tf.Tensor], context: list[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Return the times of every sample, `(batch, n)`, and the context, with their sizes checked.

    The shapes of the state are completed in place.

    Args:
        times: `(n,)`, shared, or `(batch, n)`.
        y0: The tensors of the state.
        context: Tensors that have a row for each sample.

    Raises:
        ValueError: If the numbers of rows are known and differ.
        tf.errors.InvalidArgumentError: If they are known only at run time and differ.
    """
    batch = tf.TensorShape([times.shape[0] if times.shape.rank == 2 else None])
    for y in y0:
        if y.shape.rank == 0:
            raise ValueError(
                "Independent samples need a state whose tensors all have the batch as first "
                f"axis. Received: a state with a tensor of shape {y.shape}"
            )
    for x in (*y0, *context):
        if not batch.is_compatible_with(x.shape[:1]):
            own = f"t of shape {times.shape}, " if times.shape.rank == 2 else ""
            raise ValueError(
                "Independent samples need the same number of rows in every tensor of the state, "
                "in times `t` of shape (batch, n) and in every tensor of the context that is not "
                "a scalar. What all samples share belongs into the dynamics. "
                f"Received: {own}y0 of shapes {[tuple(y.shape) for y in y0]}, "
                f"context of shapes {[tuple(x.shape) for x in context]}"
            )
        batch = batch.merge_with(x.shape[:1])
    if times.shape.rank == 1:
        size = tf.shape(y0[0])[0] if batch[0] is None else batch[0]
        times = tf.broadcast_to(times, tf.stack([size, tf.size(times)]))
    every = (times, *y0, *context)
    if any(x.shape[0] is None for x in every):
        sizes = tf.stack([tf.shape(x)[0] for x in every])
        times = checked(
            times,
            tf.reduce_any(tf.not_equal(sizes, sizes[0])),
            "Independent samples need the same number of rows in every tensor of `y0`, in the "
            "times `t` and in every tensor of the context that is not a scalar.",
            "rows of the times, then of each tensor =",
            sizes,
        )
        with tf.control_dependencies([times]):
            # No evaluation comes before the check.
            context = [tf.identity(x) for x in context]
    times.set_shape([batch[0], times.shape[1]])
    for y in y0:
        y.set_shape([batch[0], *y.shape[1:]])
    return times, context
