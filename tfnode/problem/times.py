"""The requested times, as tensors that are checked."""

import contextlib
import datetime
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfnode.solvers.failure import checked

_NO_LENGTH = (
    " Where two are equal, nothing is solved between them. Leave one out: the state at both is the "
    "same."
)


def rank(t: Any) -> int | None:
    """Return the rank of the times, a tensor or anything that NumPy takes."""
    if _is_ragged(t):
        return 2
    return t.shape.rank if tf.is_tensor(t) else np.ndim(t)


def stacked(t: Any) -> Any:
    """Return a list with tensors in it as one tensor, and anything else as it is."""
    if not isinstance(t, (list, tuple)) or not any(tf.is_tensor(x) for x in t):
        return t
    # NumPy, which takes other lists, would lose the gradients in the tensors.
    wide = tf.float64
    return tf.stack([tf.cast(x, wide) if tf.is_tensor(x) else tf.constant(x, wide) for x in t])


def numbers_in_order(times: Iterable) -> tuple[float, ...]:
    """Return the times of a layer as numbers, or raise `ValueError`."""
    numbers = np.array([float(t) for t in times])
    steps = np.diff(numbers)
    in_order = (steps > 0).all() or (steps < 0).all()
    if not steps.size or not in_order or not np.isfinite(numbers).all():
        raise ValueError(
            "`times` must be at least two numbers, strictly increasing or strictly "
            f"decreasing. Received: times={times}"
        )
    return tuple(numbers.tolist())


def without_padding(times: Any, mask: Any) -> tf.Tensor:
    """Return times `(batch, n)`, their last valid one in place of those that a mask leaves out.

    Raises:
        ValueError: If the times are not `(batch, n)`.
        tf.errors.InvalidArgumentError: If the mask leaves out others than the last of a row.
    """
    if times is None or rank(times) != 2:
        raise ValueError(
            "A mask of times needs times of shape (batch, n). Received: times="
            f"{times if times is None else tuple(times.shape)}"
        )
    times, mask = tf.convert_to_tensor(times), tf.cast(mask, tf.bool)
    if not mask.shape.is_compatible_with(times.shape):
        raise ValueError(
            "A mask of times has their shape, and the first time is among them. "
            f"Received: times of shape {times.shape}, mask of shape {mask.shape}"
        )
    count = tf.math.count_nonzero(mask, 1, keepdims=True, dtype=tf.int32)
    # A row without a valid time stays where it is, whatever its padding.
    times = tf.where(count > 0, times, tf.zeros_like(times))
    place = tf.range(tf.shape(times)[1])
    times = checked(
        times,
        tf.reduce_any(mask != (place < count)),
        "A mask of times may leave out the last ones of a row alone: they are padding.",
        "mask =",
        mask,
    )
    return tf.gather(times, tf.maximum(tf.minimum(place, count - 1), 0), batch_dims=1)


def times_tensor(t: Any, dtype: tf.DType) -> tf.Tensor:
    """Return the times as a tensor, checked: at trace time where known, else at run time."""
    given = given_times(t)
    if given.shape.rank not in (None, 1):
        raise ValueError(f"The times `t` must be 1-D. Received: t of shape {given.shape}")
    if given.shape.rank == 1 and given.shape[0] is not None and given.shape[0] < 2:
        raise ValueError(
            "`t` must hold at least two times, the first being that of `y0`. "
            f"Received: t of {given.shape[0]} times"
        )
    # Wider times than the state's stay wide while their differences are taken.
    times = given if given.dtype.size > dtype.size else tf.cast(given, dtype)
    static = tf.get_static_value(times)
    steps = times[1:] - times[:-1]
    if static is not None:
        steps = static[1:] - static[:-1]
        if not np.isfinite(static).all() or not ((steps > 0).all() or (steps < 0).all()):
            raise ValueError(
                "The times `t` must be finite and strictly increasing or strictly "
                f"decreasing.{_NO_LENGTH} Received: t={static}"
            )
        return times
    monotonic = tf.reduce_all(steps > 0) | tf.reduce_all(steps < 0)
    monotonic &= tf.reduce_all(tf.math.is_finite(times)) & (tf.size(times) > 1)
    # Where nothing can be raised, NaN goes through the solver into states and gradients.
    return checked(
        times,
        ~monotonic,
        "The times `t` must be at least two, finite and strictly increasing or strictly "
        f"decreasing.{_NO_LENGTH}",
        "t =",
        times,
        summarize=20,
    )


def clocks(t: Any, dtype: tf.DType) -> tf.Tensor:
    """Return the times of independent samples, checked: `(n,)` for all, or `(batch, n)`."""
    if rank(t) != 2:
        return times_tensor(t, dtype)
    given = given_times(t)
    if given.shape[1] is not None and given.shape[1] < 2:
        raise ValueError(
            "`t` of shape (batch, n) must hold at least two times for each sample, the first being "
            f"that of `y0`. Received: t of shape {given.shape}"
        )
    times = given if given.dtype.size > dtype.size else tf.cast(given, dtype)
    static = tf.get_static_value(times)
    expected = (
        "The times `t` of each sample must be finite and strictly increasing or strictly "
        "decreasing, but for the last one, which may be repeated at the end."
    )
    valid = _rows_are_valid(times if static is None else static)
    if static is None:
        times = checked(times, ~tf.reduce_all(valid), expected, "t =", times, summarize=20)
    elif not valid.numpy().all():
        row = int(np.argmin(valid))
        raise ValueError(f"{expected} Received: t={static[row]} for sample {row}")
    places = _last_places(times)
    # Repeated times have no gradients of their own.
    return times if places is None else tf.gather(times, places, batch_dims=1)


def _rows_are_valid(times: Any) -> tf.Tensor:
    with tf.init_scope() if isinstance(times, np.ndarray) else contextlib.nullcontext():
        steps = times[:, 1:] - times[:, :-1]
        direction = tf.sign(times[:, -1:] - times[:, :1])
        # After a step of length zero there are no others.
        following = tf.concat([steps[:, 1:], tf.zeros_like(steps[:, :1])], 1)
        fine = (steps * direction > 0.0) | (tf.equal(steps, 0.0) & tf.equal(following, 0.0))
        return tf.reduce_all(fine, 1) & tf.reduce_all(tf.math.is_finite(times), 1)


def _last_places(times: tf.Tensor) -> tf.Tensor | None:
    """Return for each time the index of the first that equals it, `(batch, n)`.

    `None` where it is known that no sample repeats its last time.
    """
    static = tf.get_static_value(times)
    if static is not None and (static[:, 1:] != static[:, :-1]).all():
        return None
    last = tf.math.count_nonzero(times[:, 1:] - times[:, :-1], 1, dtype=tf.int32)
    places = tf.minimum(tf.range(tf.shape(times)[1]), last[:, tf.newaxis])
    return tf.ensure_shape(places, times.shape)


def at_last_times(states: list, times: tf.Tensor) -> list:
    """Return the states `(n, batch, ...)`, where the last time is repeated those there."""
    places = _last_places(times)
    return states if places is None else at_places(states, places)


def at_places(states: list, places: tf.Tensor) -> list:
    """Return the states `(n, batch, ...)` at positions of their times, `(batch, m)` int32."""
    places = tf.transpose(places)
    samples = tf.range(tf.shape(places)[1]) + tf.zeros_like(places)
    index = tf.stack([places, samples], 2)
    return [
        tf.ensure_shape(tf.gather_nd(x, index), [places.shape[0], *x.shape[1:]]) for x in states
    ]


def given_times(t: Any, name: str = "t") -> tf.Tensor:
    """Return the times as a float tensor in its own dtype, or raise `TypeError`."""
    if isinstance(t, tf.RaggedTensor) or (not tf.is_tensor(t) and _is_ragged(t)):
        raise TypeError(
            f"The times `{name}` must be rows of one length. A row that ends early repeats its "
            f"last time: its state stays there. Received: {name}={t}"
        )
    try:
        # Lists are float32 to TensorFlow, which loses digits.
        given = tf.convert_to_tensor(t if tf.is_tensor(t) else _numbers(t))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"The times `{name}` must be real numbers. Turn dates into the time since the first of "
            "them, for example by `(dates - dates[0]) / np.timedelta64(1, 'D')`. "
            f"Received: {name}={t}"
        ) from error
    if not given.dtype.is_floating:
        raise TypeError(f"The times `{name}` must be floats. Received: dtype={given.dtype.name}")
    return given


def _is_ragged(t: Any) -> bool:
    """Return whether a list holds rows of different lengths."""
    rows = isinstance(t, (list, tuple)) and all(isinstance(x, (list, tuple, np.ndarray)) for x in t)
    return rows and len({len(x) for x in t}) > 1


def _numbers(t: Any) -> np.ndarray:
    dates = np.asarray(t).dtype.kind in "mM" or any(
        isinstance(x, (datetime.date, datetime.timedelta)) for x in np.ravel(np.asarray(t))[:1]
    )
    if dates:
        raise TypeError("dates have no unit that the dynamics could know")
    return np.asarray(t, np.float64)
