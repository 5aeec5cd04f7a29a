"""`Series`: irregular time series as the layers take them, their points moved together."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfnode.interpolation.inputs import floats, increasing


class Series(NamedTuple):
    """A batch of series. The points of a row come first; after them it repeats its last time.

    Attributes:
        values: `(batch, n, channels)`, NaN where a value is missing.
        times: `(batch, n)`.
        points: `(batch, n)` booleans: whether there is a point.
    """

    values: tf.Tensor
    times: tf.Tensor
    points: tf.Tensor

    @property
    def observed(self) -> tf.Tensor:
        """Which values were observed: booleans like the values."""
        return ~tf.math.is_nan(self.values) & self.points[..., tf.newaxis]

    def gaps(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return for each point the time of the one before it, and the time that passes between.

        Both are `(batch, n)`, in the dtype of the values. The first point is its own predecessor.
        """
        times, dtype = self.times, self.values.dtype
        gaps = tf.concat([tf.zeros_like(times[:, :1]), times[:, 1:] - times[:, :-1]], 1)
        return tf.cast(times - gaps, dtype), tf.cast(gaps, dtype)

    def backward(self) -> "Series":
        """Return the series from the last point to the first; those without points come first."""
        return Series(*(tf.reverse(x, [1]) for x in self))


def series(values: Any, times: Any, mask: Any, dtype: tf.DType) -> Series:
    """Return what a layer was given as a `Series`.

    Args:
        values: `(batch, n, channels)` numbers.
        times: `(batch, n)` or `(n,)` floats, or `None` for 0, 1, 2, ...
        mask: `(batch, n)` booleans, or `None`. What is masked is left out.
        dtype: The dtype of the values.

    Raises:
        ValueError: If times that are known do not increase, or a shape is wrong.
        TypeError: If the times are not floats.
        tf.errors.InvalidArgumentError: If times known only at run time do not increase. XLA has no
            assertions: there the result is NaN.
    """
    values = tf.cast(values, dtype)
    times = None if times is None else floats("times", times)
    check_shapes(values.shape, None if times is None else times.shape)
    if mask is not None and not mask.shape.is_compatible_with(values.shape[:2]):
        raise ValueError(
            "`mask` must have the shape (batch, n). A value of a single channel that is missing "
            f"is NaN. Received: mask of shape {mask.shape}, values of shape {values.shape}"
        )
    shape = tf.shape(values)[:2]
    times = tf.range(shape[1], dtype=dtype) if times is None else times
    if times.shape.rank == 1:
        times = increasing(times) if mask is None else times
        times = tf.broadcast_to(times, shape)
    times.set_shape(values.shape[:2])
    if mask is not None:
        values, times = _without_masked(values, times, mask)
    times = increasing(times)
    points = tf.concat([tf.ones_like(times[:, :1], tf.bool), times[:, 1:] > times[:, :-1]], 1)
    if mask is not None:
        points &= tf.reduce_any(mask, 1, keepdims=True)
    return Series(values, times, points)


def check_shapes(values_shape: Any, times_shape: Any) -> None:
    """Raise `ValueError` for values and times whose shapes do not fit.

    Args:
        values_shape: A tuple or a `tf.TensorShape`; what was given for one tensor may be several.
        times_shape: The same, or `None`.
    """
    several = isinstance(values_shape, list | tuple) and any(np.ndim(x) for x in values_shape)
    known = not several and tf.TensorShape(values_shape).rank == 3
    if not known or values_shape[2] is None or values_shape[1] == 0:
        raise ValueError(
            "`values` must have the shape (batch, n, channels), with n at least 1 and a known "
            f"number of channels. Received: values of shape {values_shape}"
        )
    if times_shape is None:
        return
    expected, times = tf.TensorShape(values_shape[:2]), tf.TensorShape(times_shape)
    if times.rank == 1:
        expected = expected[1:]
    if not expected.is_compatible_with(times):
        raise ValueError(
            "`times` must have the shape (batch, n), or (n,) where they are shared. Received: "
            f"times of shape {times_shape}, values of shape {values_shape}"
        )


def _without_masked(
    values: tf.Tensor, times: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Move what is not masked to the beginning, and repeat the last of it."""
    n = tf.shape(mask)[1]
    last = tf.math.count_nonzero(mask, 1, keepdims=True, dtype=tf.int32) - 1
    # The places of what is not masked, in their order, and then n.
    places = tf.sort(tf.where(mask, tf.range(n), n), axis=1)
    places = tf.gather(places, tf.minimum(tf.range(n), tf.maximum(last, 0)), batch_dims=1)
    places = tf.minimum(places, n - 1)
    values, times = (tf.gather(x, places, batch_dims=1) for x in (values, times))
    # Where all is masked, nothing of it may be seen: a path would begin at the first value.
    some = last >= 0
    values = tf.where(some[..., tf.newaxis], values, tf.zeros_like(values))
    times = tf.where(some, times, tf.zeros_like(times))
    return values, tf.ensure_shape(times, mask.shape)


def in_place(states: tf.Tensor, mask: Any, backwards: bool = False) -> tf.Tensor:
    """Return states at the points as states at the places of the layer's input.

    A masked place has the state of the place that was read before it, and zeros before the first,
    as in Keras's recurrent layers.

    Args:
        states: `(batch, n, units)`, in the order of a `Series`.
        mask: As in `series`.
        backwards: Whether places are read from the last to the first.
    """
    if mask is None:
        return states
    # The number of the point that was read last.
    index = tf.cumsum(tf.cast(mask, tf.int32), 1, exclusive=backwards) - (0 if backwards else 1)
    count = tf.math.count_nonzero(mask, 1, keepdims=True, dtype=tf.int32)
    begun = (index >= 0) & (index < count)
    index = tf.clip_by_value(index, 0, tf.shape(mask)[1] - 1)
    states = tf.gather(states, index, batch_dims=1)
    return tf.where(begun[..., tf.newaxis], states, tf.zeros_like(states))


def last_observed(observed: tf.Tensor) -> tf.Tensor:
    """Return the place of the last observation up to each time, and -1 before the first.

    Args:
        observed: `(batch, n, channels)` booleans.

    Returns:
        int32, of the same shape.
    """
    observed = tf.transpose(observed, [0, 2, 1])
    n = tf.shape(observed)[2]
    places = tf.sort(tf.where(observed, tf.range(n), n), axis=2)
    count = tf.cumsum(tf.cast(observed, tf.int32), 2)
    places = tf.gather(places, tf.maximum(count - 1, 0), batch_dims=2)
    return tf.transpose(tf.where(count > 0, places, -1), [0, 2, 1])


def filled(values: tf.Tensor, observed: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Return values at the places `at`, like `last_observed`; 0 where that is -1."""
    values = tf.where(observed, values, tf.zeros_like(values))
    values = tf.transpose(values, [0, 2, 1])
    places = tf.transpose(at, [0, 2, 1])
    found = tf.gather(values, tf.maximum(places, 0), batch_dims=2)
    found = tf.transpose(found, [0, 2, 1])
    return tf.where(at >= 0, found, tf.zeros_like(found))
