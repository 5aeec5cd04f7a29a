"""Where an adaptive solve is, a step that it tries, and the steps that it took."""

from typing import NamedTuple

import tensorflow as tf

from tfnode.solvers.record import Record
from tfnode.solvers.trajectory import Stats


class Steps(NamedTuple):
    """The accepted steps of a solve.

    Attributes:
        record: The `Record`.
        stats: The `Stats`.
    """

    record: Record
    stats: Stats


class Progress(NamedTuple):
    """Where a solve is; everything that its loop carries.

    The scalars are packed: under XLA every variable of a loop costs a kernel a step.
    """

    y: list
    q: list
    derivative: tuple  # The field at `(t, y)`, as it returned it.
    clock: tf.Tensor  # The time; the size of the next step, without sign; see `ratio`.
    counts: tf.Tensor  # The accepted and the rejected steps.

    @property
    def t(self):
        """The time reached."""
        return self.clock[0]

    @property
    def h(self):
        """The size of the next step; 0 once it is below the resolution of time."""
        return self.clock[1]

    @property
    def ratio(self):
        """Error over tolerance of the last accepted step."""
        return self.clock[2]

    @property
    def accepted(self):
        """The number of accepted steps."""
        return self.counts[0]

    @property
    def rejected(self):
        """The number of rejected steps."""
        return self.counts[1]

    def with_step(self, h):
        """Return the same place with another size of the next step."""
        return self._replace(clock=tf.stack([self.t, h, self.ratio]))

    def may_go_on(self, max_steps):
        """Whether neither the budget of steps is spent nor the step too small."""
        return (tf.reduce_sum(self.counts) < max_steps) & (self.h > 0.0)


class Trial(NamedTuple):
    """A step that was tried."""

    t: tf.Tensor
    h: tf.Tensor  # With sign.
    y: list
    q: list
    ks: list  # The derivatives: those of the stages, then that at the end of the step.
    last: tuple  # The field at `(t, y)`, as it returned it.
    ratio: tf.Tensor
    accept: tf.Tensor
    lands: tf.Tensor
