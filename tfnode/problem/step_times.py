"""The times at which the dynamics jump or kink, among the requested ones."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.problem.times import given_times


class Merged(NamedTuple):
    """The requested times and the step times, in the order of the solve.

    Attributes:
        times: `(m,)`, or `(batch, m)`.
        places: int32 tensor `(n,)` or `(batch, n)`, the positions of the requested times.
        stops: int32 tensor like `times`: the position of the first time from there on that is a
            step time, or the last one.
    """

    times: tf.Tensor
    places: tf.Tensor
    stops: tf.Tensor


def merged(times: tf.Tensor, step_times: Any) -> Merged:
    """Return the requested times, checked already, with the step times among them.

    Args:
        times: `(n,)`, or `(batch, n)`.
        step_times: As in `tfnode.odeint`. Those outside of the interval count for nothing.

    Raises:
        ValueError: If the step times have another shape than `(k,)`, or `(batch, k)` with
            `(batch, n)` times.
        TypeError: If they are not floating.
    """
    steps = tf.cast(given_times(step_times, "step_times"), times.dtype)
    if steps.shape.rank not in (1, times.shape.rank):
        raise ValueError(
            "`step_times` must be 1-D, or (batch, k) where the samples are independent. "
            f"Received: step_times of shape {steps.shape}"
        )
    shape, matrix = times.shape, tf.reshape(times, [-1, tf.shape(times)[-1]])
    start, end = matrix[:, :1], matrix[:, -1:]
    direction = tf.sign(end - start)
    within = ((steps - start) * direction > 0.0) & ((end - steps) * direction > 0.0)
    # The last time is a stop already. NaN stands there for the same, in rows of unequal length.
    steps = tf.where(within, steps, end)
    together = tf.concat([matrix, steps], 1)
    order = tf.argsort(together * direction, stable=True)
    ranks = tf.argsort(order)
    requested = tf.shape(matrix)[1]
    stops = tf.sort(ranks[:, requested:])
    last = tf.zeros_like(ranks[:, :1]) + tf.shape(together)[1] - 1
    stops = tf.concat([stops, last], 1)
    positions = tf.zeros_like(ranks) + tf.range(tf.shape(together)[1])
    following = tf.gather(stops, tf.searchsorted(stops, positions), batch_dims=1)
    # This gather has a dense gradient, unlike one without `batch_dims`.
    parts = [tf.gather(together, order, batch_dims=1), ranks[:, :requested], following]
    size = None if None in (shape[-1], steps.shape[1]) else shape[-1] + steps.shape[1]
    for i, length in enumerate((size, shape[-1], size)):
        parts[i] = parts[i][0] if shape.rank == 1 else parts[i]
        parts[i].set_shape([*shape[:-1], length])
    return Merged(*parts)


class Pieces(NamedTuple):
    """The intervals between the times, in each of which the dynamics do not jump.

    Attributes:
        starts: Where they begin, as time elapsed since the first time, without sign.
        lower, upper: The least and greatest of the caller's times inside.
    """

    starts: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor

    @classmethod
    def between(cls, times: tf.Tensor, dtype: tf.DType) -> "Pieces":
        """Return the pieces between the caller's times, for a clock of this dtype."""
        times = tf.stop_gradient(times)
        starts = tf.abs(times - times[..., :1])[..., :-1]
        clock = tf.cast(times, dtype)
        begin, end = clock[..., :-1], clock[..., 1:]
        begin, end = tf.math.nextafter(begin, end), tf.math.nextafter(end, begin)
        return cls(starts, tf.minimum(begin, end), tf.maximum(begin, end))

    def clip(self, elapsed: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
        """Return the caller's time `t`, in the piece to which the time elapsed belongs.

        Rounding must not take it over an end of the piece. The gradient is that of `t`.
        """
        elapsed = tf.stop_gradient(tf.abs(elapsed))[..., tf.newaxis]
        index = tf.maximum(tf.searchsorted(self.starts, elapsed, side="right") - 1, 0)
        batch = self.starts.shape.rank - 1
        lower, upper = (
            tf.gather(x, index, batch_dims=batch)[..., 0] for x in (self.lower, self.upper)
        )
        return t + tf.stop_gradient(tf.clip_by_value(t, lower, upper) - t)
