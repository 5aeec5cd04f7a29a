"""Where within a step an event lies, and how its time depends on the rest."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfnode.gradients.reverse_step import along
from tfnode.solvers import step_control

ITERATIONS = 60
RESOLUTION = 4.0  # Of time, in epsilons.


def too_near(before: tf.Tensor, after: tf.Tensor, t: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
    """Return where an event function is zero at the beginning of a step, but for rounding.

    A solve may begin where the last event ended, whose time is right to the resolution of time.
    A zero that is no further away is that event, not another.

    Args:
        before, after: The event function at the two ends of the step.
        t, h: The time at its beginning as the caller has it, and its size with sign.
    """
    scale = tf.maximum(tf.abs(t), tf.abs(h))
    share = tf.math.divide_no_nan(RESOLUTION * step_control.epsilon(h.dtype) * scale, tf.abs(h))
    return (before * after <= 0.0) & (tf.abs(before) <= share * tf.abs(after - before))


def crossing(value: Callable, found: tf.Tensor, t: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
    """Return at which fraction of a step a value falls to zero, by the Illinois method.

    It is a false position that halves the value at an end that stays twice. The result is right
    to the resolution of time.

    Args:
        value: `value(fraction)`, like `h`: above zero at 0, and at 1 zero or below.
        found: Booleans like `h`, whether there is an event. Elsewhere the result means nothing.
        t, h: Where the step begins, and its size with sign: scalars, or one for each sample.

    Reference: Dowell, Jarratt, *A modified regula falsi method for computing the root of an
    equation* (1971).
    """
    one = tf.ones_like(h)
    resolution = RESOLUTION * step_control.epsilon(h.dtype)
    scale = tf.maximum(tf.abs(t), tf.abs(h))

    def wide(a: tf.Tensor, b: tf.Tensor, fb: tf.Tensor) -> tf.Tensor:
        return found & (fb < 0.0) & ((b - a) * tf.abs(h) > resolution * scale)

    def narrow(i: Any, a: Any, fa: Any, b: Any, fb: Any, side: Any) -> tuple:
        going = wide(a, b, fb)
        c = tf.math.divide_no_nan(a * fb - b * fa, fb - fa)
        # Where rounding leaves nothing between, halve.
        c = tf.where((c > a) & (c < b), c, 0.5 * (a + b))
        fc = value(c)
        right = fc <= 0.0
        new = tf.where(right, 1, -1)
        # An end that stays a second time counts half, or it might stay for ever.
        weight = tf.where(tf.equal(new, side), 0.5 * one, one)
        after = (
            tf.where(right, a, c),
            tf.where(right, weight * fa, fc),
            tf.where(right, c, b),
            tf.where(right, fc, weight * fb),
            new,
        )
        kept = (a, fa, b, fb, side)
        return i + 1, *(tf.where(going, x, z) for x, z in zip(after, kept))

    start = (0.0 * one, value(0.0 * one), one, value(one), tf.zeros_like(one, tf.int32))
    _, _, _, fraction, _, _ = tf.while_loop(
        lambda i, a, fa, b, fb, side: tf.reduce_any(wide(a, b, fb)),
        narrow,
        (tf.zeros([], tf.int32), *start),
        maximum_iterations=ITERATIONS,
        parallel_iterations=1,
    )
    return fraction


def correction(
    event: Callable,
    time: tf.Tensor,
    elapsed: tf.Tensor,
    y: list,
    slope: list,
    happened: Any = True,
) -> tf.Tensor:
    """Return a step of Newton's method for `g(t, y(t)) = 0`, with the gradient of its zero.

    The solve that ends at the event has other steps than the search, so `g` is not quite zero.

    Args:
        event: `event(t, y)`, the `g`: a scalar, or one number for each sample.
        time, elapsed: The time of the event, as the caller has it and since the solve began.
        y, slope: The state there, and its derivative.
        happened: Whether there is an event, booleans like the times. Elsewhere the step is 0.
    """
    with tf.GradientTape() as tape:
        tape.watch([time, *y])
        value = event(time, y)
    by_time, *by_y = tape.gradient(
        value, [time, *y], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    rate = tf.where(happened, by_time + along(by_y, slope, time), tf.ones_like(time))
    value = tf.where(happened, value, tf.zeros_like(value))
    return newton(value, rate, elapsed) - (value - tf.stop_gradient(value)) / rate


def newton(value: tf.Tensor, rate: tf.Tensor, elapsed: tf.Tensor) -> tf.Tensor:
    """Return a step of Newton's method towards a zero, without a gradient.

    A step that is longer than a thousandth of the time elapsed is 0. It leads anywhere, as where
    the event function hardly changes.
    """
    step = tf.stop_gradient(tf.math.divide_no_nan(-value, rate))
    return tf.where(tf.abs(step) <= 1e-3 * tf.abs(elapsed), step, tf.zeros_like(step))
