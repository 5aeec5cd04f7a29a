"""`Path`: what the interpolations share."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfnode.interpolation.inputs import check_shapes, differences, floats, increasing
from tfnode.solvers.failure import checked

OUTSIDE = ("hold", "extrapolate", "raise")


class Path:
    """Base of the paths: `path(t)` is a value, `path.derivative(t)` its exact derivative.

    The time is the last axis of `times` and the same axis of `values`. So `times` `(n,)` make
    one path, and `times` `(batch, n)` a batch of paths. `times` `(1, n)` are shared by a batch.

    A value that is NaN is missing. Each channel goes through what was observed of it, as if
    it had no other times. It is constant before its first observation and after its last one.
    So it looks ahead before the first. A channel without any observation is 0.

    Args:
        times: `(n,)`, `(1, n)` or `(batch, n)` floats, strictly increasing, at least one. A row of
            2-D times that ends early repeats its last time: the path ends there, and the values
            at the repetitions are ignored.
        values: `(n, channels...)` for times `(n,)`, else `(batch, n, channels...)`. Floats.
        outside: The path before its first time and after its last. "hold" keeps the value there,
            with derivative 0. "extrapolate" continues the first and the last piece. "raise" is
            an error.

    Call arguments:
        t: A scalar; or `(batch,)`, each sample at its own time. One path takes any number of
            times, too.

    Returns:
        `(batch, channels...)`, or `(channels...)` for one path at a scalar, in the dtype of the
        values. The derivative at one of the times is that to its right, but at the last time
        that to its left.

    The path is differentiable in `values`, `times` and `t`, any number of times. Half-precision
    values are interpolated in float32.

    Raises:
        ValueError: If the shapes do not fit, if `outside` is unknown, or if times that are
            known do not increase.
        TypeError: If times or values are not floats.
        tf.errors.InvalidArgumentError: If times known only at run time do not increase, or a `t`
            is outside with "raise". XLA has no assertions: there the result is NaN.
    """

    def __init__(self, times: Any, values: Any, outside: str = "hold") -> None:
        if outside not in OUTSIDE:
            raise ValueError(f"`outside` must be one of {OUTSIDE}. Received: outside={outside!r}")
        times, values = floats("times", times), floats("values", values)
        check_shapes(times.shape, values.shape)
        self.outside = outside
        self.dtype = values.dtype
        self._given_dtype = times.dtype
        self._batched = times.shape.rank == 2
        self._channels = values.shape.rank - times.shape.rank
        wide = values.dtype if values.dtype.size >= 4 else tf.float32
        # Differences of wide times keep their digits.
        times = increasing(times)
        times = tf.cast(times, wide) if times.dtype.size < wide.size else times
        if not self._batched:
            times, values = times[tf.newaxis], values[tf.newaxis]
        self._times = times
        self._pieces = tf.searchsorted(times, times[:, -1:], "left")
        self._table = self._tabulated(tf.cast(values, wide))

    @property
    def knots(self) -> tf.Tensor:
        """The times: `(batch, n)`, or `(n,)` where they are shared."""
        return self._times[0] if self._times.shape[0] == 1 else self._times

    @property
    def pieces(self) -> tf.Tensor:
        """The coefficients of `1, s, s^2, ...` from each time to the next, `s` the time since.

        `(batch, n, degree + 1, channels...)`, with a batch of 1 for one path. Half-precision
        values have float32 coefficients. They are constant from the last time on.
        """
        return self._table

    @tf.autograph.experimental.do_not_convert
    def __call__(self, t: Any) -> tf.Tensor:
        """Return the value at `t`."""
        t = self._time(t)
        coefficients, s, _ = self._piece(t)
        return self._result(polynomial(coefficients, s), t)

    @tf.autograph.experimental.do_not_convert
    def derivative(self, t: Any) -> tf.Tensor:
        """Return the derivative at `t`, in the shape of the value."""
        t = self._time(t)
        coefficients, s, held = self._piece(t)
        slope = polynomial([i * c for i, c in enumerate(coefficients)][1:], s)
        return self._result(tf.where(held, tf.zeros([], slope.dtype), slope), t)

    def _coefficients(self, h: tf.Tensor, slope: tf.Tensor) -> list[tf.Tensor]:
        """Return the coefficients of `s`, `s^2`, ..., with `s` the time since a piece began.

        Args:
            h: `(batch, channels, n)`, the lengths of the pieces between the observations.
            slope: Like it, the difference quotients over them.
        """
        raise NotImplementedError

    def _tabulated(self, values: tf.Tensor) -> tf.Tensor:
        """Return the coefficients from every time on, `(batch, n, degree + 1, channels...)`."""
        shape = tf.shape(values)
        batch, n, channels = shape[0], shape[1], shape[2:]
        values = tf.reshape(values, [batch, n, tf.reduce_prod(channels)])
        values = tf.transpose(values, [0, 2, 1])
        real = tf.concat(
            [tf.ones_like(self._times[:, :1], tf.bool), differences(self._times) > 0], 1
        )
        observed = ~tf.math.is_nan(values) & real[:, tf.newaxis]
        # Not after the arithmetic: the gradient of a product with NaN is NaN.
        values = tf.where(observed, values, tf.zeros_like(values))
        times = tf.broadcast_to(self._times[:, tf.newaxis], tf.shape(values))

        # The observations of a channel, moved together, and the pieces that begin at them.
        places = tf.sort(tf.where(observed, tf.range(n), n))
        ends = tf.concat([places[..., 1:] < n, tf.zeros_like(observed[..., :1])], -1)
        places = tf.minimum(places, n - 1)
        start, value = _take(times, places), _take(values, places)
        h = tf.where(ends, tf.cast(_following(start) - start, value.dtype), 1.0)
        slope = tf.where(ends, (_following(value) - value) / h, 0.0)
        coefficients = [tf.where(ends, c, 0.0) for c in self._coefficients(h, slope)]

        # The piece that every time is in, as a polynomial of the time that has passed since.
        count = tf.cumsum(tf.cast(observed, tf.int32), -1)
        piece = tf.maximum(count - 1, 0)
        passed = tf.cast(times - _take(start, piece), value.dtype)
        coefficients = [tf.where(count > 0, _take(c, piece), 0.0) for c in coefficients]
        table = tf.stack(_shifted([_take(value, piece), *coefficients], passed), 2)
        table = tf.transpose(table, [0, 3, 2, 1])
        size = table.shape[2]
        return tf.reshape(table, tf.concat([[batch, n, size], channels], 0))

    def _time(self, t: Any) -> tf.Tensor:
        t = t if tf.is_tensor(t) else tf.cast(np.asarray(t, np.float64), self._times.dtype)
        if not t.dtype.is_floating:
            raise TypeError(f"The time `t` must be a float. Received: dtype={t.dtype.name}")
        batch = self._table.shape[0] if self._batched else None
        if t.shape.rank != 0 and (t.shape.rank != 1 or not t.shape.is_compatible_with([batch])):
            raise ValueError(
                "The time `t` must be a scalar, or of shape (batch,): a time for each sample. "
                f"Received: t of shape {t.shape} for a batch of {batch}"
            )
        return t

    def _piece(self, t: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return the piece at `t`: its coefficients, the time in it, and whether it is held.

        Each has the axes `(batch, number of times, channels...)`, of which some may be 1.
        """
        times, shared = self._times, self._times.shape[0] == 1
        t = tf.reshape(t, [1, -1] if shared else [-1, 1])
        first, last = times[:, :1], times[:, -1:]
        # In the narrower dtype, so that rounding puts no time outside.
        narrow = min(t.dtype, self._given_dtype, key=lambda dtype: dtype.size)
        before = tf.cast(t, narrow) < tf.cast(first, narrow)
        after = tf.cast(t, narrow) > tf.cast(last, narrow)
        outside = before | after
        t = tf.broadcast_to(tf.cast(t, times.dtype), tf.shape(outside))
        if self.outside == "hold":
            t = tf.where(before, first, tf.where(after, last, t))
        place = tf.minimum(tf.searchsorted(times, t, "right"), self._pieces)
        place = tf.maximum(place - 1, 0)
        s = tf.cast(t - _take(times, place), self._table.dtype)
        held = outside & (self.outside == "hold")
        if shared and self._batched:
            place, s, held = (tf.transpose(x) for x in (place, s, held))
        place = tf.broadcast_to(place, [tf.shape(self._table)[0], tf.shape(place)[1]])
        coefficients = _take(self._table, place)
        if self.outside == "raise":
            coefficients = checked(
                coefficients,
                tf.reduce_any(outside),
                "A path was asked for a time outside of its own. Give it more times, or "
                "`outside='hold'` or 'extrapolate'.",
                *("t =", t, "first time =", first, "last time =", last),
            )
        channels = (..., *[tf.newaxis] * self._channels)
        s, held = s[channels], held[channels]
        return tf.unstack(coefficients, axis=2), s, held

    def _result(self, x: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
        """Return what has the axes `(batch, number of times, channels...)` as the caller's."""
        x = tf.cast(x, self.dtype)
        if self._batched:
            return tf.squeeze(x, 1)
        return x[0] if t.shape.rank == 1 else x[0, 0]


def _following(x: tf.Tensor) -> tf.Tensor:
    return tf.concat([x[..., 1:], x[..., -1:]], -1)


def _take(x: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    return tf.gather(x, places, batch_dims=places.shape.rank - 1)


def _shifted(coefficients: list[tf.Tensor], by: tf.Tensor) -> list[tf.Tensor]:
    """Return the coefficients of a polynomial of `x` as one of `x - by`."""
    shifted = list(coefficients)
    for i in range(len(shifted) - 1):
        for j in reversed(range(i, len(shifted) - 1)):
            shifted[j] += by * shifted[j + 1]
    return shifted


def polynomial(coefficients: list[tf.Tensor], s: tf.Tensor) -> tf.Tensor:
    """Return the value at `s` of the polynomial with these coefficients of `1, s, s^2, ...`."""
    value = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        value = value * s + c
    return value
