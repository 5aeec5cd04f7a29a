"""What a solver returns."""

import math
from typing import Any, NamedTuple

import tensorflow as tf


class Stats(NamedTuple):
    """What a solve cost. Scalar int32 tensors, counted by the solver itself.

    Attributes:
        num_evaluations: Evaluations of the vector field (NFE).
        num_steps: Accepted steps.
        num_rejected: Rejected steps.
    """

    num_evaluations: tf.Tensor
    num_steps: tf.Tensor
    num_rejected: tf.Tensor


class Trajectory(NamedTuple):
    """What `integrate` returns.

    Attributes:
        states: A list with one tensor for each component of the state, stacked over the
            times on axis 0, or the last state alone where only that was asked for.
        quadratures: A list: the quadratures at the last time.
        stats: `Stats`.
        step: The size with which an adaptive solver would go on, or `None`.
        record: The `Record` of the steps, where it was asked for.
        failed: Whether the solve failed, a boolean scalar; without XLA it has raised an error.
    """

    states: list
    quadratures: list
    stats: Stats
    step: Any = None
    record: Any = None
    failed: Any = False


def checked(results, failed, message, *facts, summarize=3):
    """The results, if all went well; else an error, or NaN where XLA has none.

    Args:
        results: Any structure of float tensors.
        failed: A boolean scalar.
        message: What went wrong, and what to do.
        facts: What was received: names, each before its value.
        summarize: How many elements of each tensor are shown.

    Raises:
        tf.errors.InvalidArgumentError: If `failed`.
    """
    check = tf.debugging.Assert(~failed, [f"{message} Received:", *facts], summarize)
    with tf.control_dependencies([] if check is None else [check]):
        # Not under XLA alone: what is traced without it may be compiled by it later.
        return tf.nest.map_structure(lambda x: nan_where(failed, x), results)


def finite(tensors):
    """Whether no element of a list of tensors is NaN or infinite, a boolean scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in tensors])


def nan_where(failed, x):
    """`x`, a float tensor, or NaN if something failed that could not be raised.

    A product, so that the gradients through it are NaN, too; those of a selection would be 0.
    """
    return x * tf.where(failed, tf.constant(math.nan, x.dtype), 1.0)
