"""`Trajectory`, `Stats` and `Steps`: the results of a solve."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.solvers.record import Record


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
    step: tf.Tensor | None = None
    record: Record | None = None
    failed: Any = False


class Steps(NamedTuple):
    """The accepted steps of a solve.

    Attributes:
        record: The `Record`.
        stats: The `Stats`.
    """

    record: Record
    stats: Stats
