"""`Trajectory` and `Stats`: the results of a solve."""

from typing import Any, NamedTuple

import tensorflow as tf


class Stats(NamedTuple):
    """The cost of a solve: int32 tensors, scalars or one for each sample, counted by the solver.

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
        failed: Whether the solve failed, a boolean scalar, or one for each sample.
        number: How many steps are in the record, an int32 scalar.
    """

    states: list
    quadratures: list
    stats: Stats
    step: tf.Tensor | None = None
    record: Any = None
    failed: Any = False
    number: Any = None
