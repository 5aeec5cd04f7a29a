"""The times and values that a path is given, checked."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfnode.solvers.failure import checked


def floats(name: str, given: Any) -> tf.Tensor:
    """Return what was given as a float tensor."""
    try:
        if name == "times" and isinstance(given, (list, tuple)):
            tensors = any(tf.is_tensor(x) for x in tf.nest.flatten(given))
            # Lists are float32 to TensorFlow, which loses digits.
            given = given if tensors else np.asarray(given, np.float64)
        tensor = tf.convert_to_tensor(given)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be real numbers. Received: {name}={given}") from error
    if not tensor.dtype.is_floating:
        raise TypeError(
            f"`{name}` must be floats; cast them first. Received: dtype={tensor.dtype.name}"
        )
    return tensor


def check_shapes(times: tf.TensorShape, values: tf.TensorShape) -> None:
    """Raise `ValueError` where times and values of these shapes make no path."""
    if times.rank not in (1, 2) or times[-1] == 0:
        raise ValueError(
            "`times` must have the shape (n,), (1, n) or (batch, n), with n at least 1. "
            f"Received: times of shape {times}"
        )
    leading = values[: times.rank] if values.rank is not None else values
    expected = [None, times[1]] if times.rank == 2 and times[0] == 1 else times
    if values.rank is None or values.rank < times.rank or not leading.is_compatible_with(expected):
        raise ValueError(
            "`values` must have the shape (n, channels...) for times (n,), and (batch, n, "
            "channels...) for times (batch, n) or (1, n). Give times that a batch shares as "
            f"`times[tf.newaxis]`. Received: values of shape {values}, times of shape {times}"
        )


def increasing(times: tf.Tensor) -> tf.Tensor:
    """Return the times, checked: at trace time where they are known, else at run time."""
    message = (
        "The times must be finite and strictly increasing. A row of 2-D times that ends early "
        "repeats its last time."
    )
    static = tf.get_static_value(times)
    if static is None:
        return checked(times, ~_increase(times), message, "times =", times, summarize=20)
    with tf.init_scope():
        if not _increase(tf.constant(static)):
            raise ValueError(f"{message} Received: times={static}")
    return times


def _increase(times: tf.Tensor) -> tf.Tensor:
    steps = differences(times)
    well = tf.reduce_all(tf.math.is_finite(times)) & (tf.shape(times)[-1] > 0)
    if times.shape.rank == 1:
        return well & tf.reduce_all(steps > 0)
    ended = (steps[:, :-1] == 0) & (steps[:, 1:] != 0)
    return well & tf.reduce_all(steps >= 0) & ~tf.reduce_any(ended)


def differences(times: tf.Tensor) -> tf.Tensor:
    """Return the differences of neighbours on the last axis."""
    return times[..., 1:] - times[..., :-1]
