"""How long the steps of adaptive solvers are: the error norm, the first step, the controller."""

import math
from typing import Any

import tensorflow as tf

from tfnode.solvers.solver import Field, State
from tfnode.solvers.stages import add, increment

# The controller: the next step is the last one times
# SAFETY * ratio^(-(INTEGRAL + PROPORTIONAL) / k) * previous_ratio^(PROPORTIONAL / k).
SAFETY, INTEGRAL, PROPORTIONAL = 0.95, 0.9, 0.1
SMALLEST_FACTOR, LARGEST_FACTOR = 0.2, 10.0
SMALLEST_PREVIOUS = 0.1  # One very good step must not brake the one after the next.


# A number, or one for each element on the last axis of the state.
Tolerance = float | tuple[float, ...]


def factor(ratio: tf.Tensor, previous: tf.Tensor, accept: tf.Tensor, order: int) -> tf.Tensor:
    """Return by what the next step is longer than the last; all arguments have one shape.

    The PI controller of Hairer, Wanner, section IV.2.

    Args:
        ratio: Error over tolerance of the last step.
        previous: That of the accepted step before it.
        accept: Whether the last step is accepted.
        order: Of the embedded solution, plus one.
    """
    power = tf.maximum(ratio, 1e-10) ** (-(INTEGRAL + PROPORTIONAL) / order)
    power *= tf.maximum(previous, SMALLEST_PREVIOUS) ** (PROPORTIONAL / order)
    result = tf.clip_by_value(SAFETY * power, SMALLEST_FACTOR, LARGEST_FACTOR)
    result = tf.where(tf.math.is_finite(ratio), result, SMALLEST_FACTOR)
    return tf.where(accept, result, tf.minimum(result, SAFETY))


def ratio(
    error: State, y: State, y_new: State, rtol: Tolerance, atol: Tolerance, h: tf.Tensor
) -> tf.Tensor:
    """Return the error in units of the tolerance: root mean square over all components.

    Args:
        error, y, y_new: Lists of tensors.
        rtol, atol: Tolerances.
        h: A tensor like the result: a scalar, or one number for each sample.
    """
    scales = [scale(rtol, atol, tf.maximum(tf.abs(a), tf.abs(b))) for a, b in zip(y, y_new)]
    # An infinite scale would hide every error.
    scaled = [tf.where(s < math.inf, e / s, math.nan) for e, s in zip(error, scales)]
    return tf.stop_gradient(rms(scaled, h))


def first(
    field: Field,
    t: tf.Tensor,
    y: State,
    derivative: State,
    span: tf.Tensor,
    rtol: Tolerance,
    atol: Tolerance,
    order: int,
) -> tf.Tensor:
    """Return the size of the first step, without sign, for one evaluation.

    The rule of Hairer, Norsett and Wanner, section II.4.

    Args:
        field, t, y: As in `Solver.initial_step`.
        derivative: List of tensors, the derivative of the state at `(t, y)`.
        span: From `t` to the last time: a scalar, or one number for each sample.
        rtol, atol: Tolerances.
        order: Of the embedded solution, plus one.
    """
    scales = [scale(rtol, atol, tf.abs(x)) for x in y]
    d0 = rms([x / s for x, s in zip(y, scales)], span)
    d1 = rms([x / s for x, s in zip(derivative, scales)], span)
    tiny = tf.constant(1e-6, span.dtype)
    h0 = tf.where((d0 < 1e-5) | (d1 < 1e-5), tiny, 0.01 * d0 / d1)
    # Rounding must not take the time beyond the last one.
    h0 = tf.stop_gradient(tf.minimum(h0, 0.99 * tf.abs(span)))
    h0_signed = h0 * tf.sign(span)
    probe = add(y, increment((1.0,), h0_signed, [derivative]))
    second, _ = field(t + h0_signed, probe)
    change = [(a - b) / s for a, b, s in zip(second, derivative, scales)]
    steepest = tf.maximum(d1, rms(change, span) / h0)
    h1 = tf.where(
        steepest <= 1e-15,
        tf.maximum(tiny, h0 * 1e-3),
        (0.01 / steepest) ** (1.0 / order),
    )
    h = tf.minimum(tf.minimum(100.0 * h0, h1), tf.abs(span))
    # A field that is not finite must make the first step fail, not this.
    return tf.stop_gradient(tf.where(tf.math.is_finite(h), h, tf.abs(span)))


def scale(rtol: Tolerance, atol: Tolerance, size: tf.Tensor) -> tf.Tensor:
    """Return the error that is tolerated in a tensor of the state, whose absolute value is `size`.

    Raises:
        ValueError: If its last axis is not that of tolerances by component.
    """

    def like(tolerance: Tolerance) -> Any:
        if not isinstance(tolerance, tuple):
            return tolerance
        if size.shape.rank == 0 or not size.shape[-1:].is_compatible_with([len(tolerance)]):
            raise ValueError(
                "Tolerances by component need one number for each element on the last axis of "
                f"the state. Received: {len(tolerance)} numbers, a state of shape {size.shape}"
            )
        return tf.constant(tolerance, size.dtype)

    return like(atol) + like(rtol) * size


def rms(tensors: State, like: tf.Tensor) -> tf.Tensor:
    """Return the root mean square over the elements of all tensors; 0 where there are none.

    Args:
        tensors: List of tensors.
        like: A tensor of the dtype and shape of the result: a scalar for one number, `(batch,)`
            for one for each sample.
    """
    dtype, first = like.dtype, like.shape.rank

    def total_of(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square(x), list(range(first, x.shape.rank)) if first else None)

    def size_of(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_prod(tf.shape(x)[1:]) if first else tf.size(x)

    total = tf.add_n([tf.cast(total_of(x), dtype) for x in tensors])
    size = tf.add_n([tf.cast(size_of(x), dtype) for x in tensors])
    return tf.sqrt(total / tf.maximum(size, 1.0))


def epsilon(dtype: tf.DType) -> float:
    """Return the resolution of floats, of 4 or 8 bytes, near 1."""
    return 1.2e-7 if dtype == tf.float32 else 2.3e-16
