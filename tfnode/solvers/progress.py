"""Where a solve with error control is, and a step that it tries."""

from typing import NamedTuple

import tensorflow as tf

from tfnode.solvers.solver import State


class Progress(NamedTuple):
    """Where a solve is; everything that its loop carries.

    The scalars, or the numbers of each sample, are packed: under XLA every variable of a loop costs
    a kernel a step.
    """

    y: State
    q: State
    derivative: tuple[State, State]  # The field at `(t, y)`, as it returned it.
    clock: tf.Tensor  # The time; the size of the next step, without sign; see `ratio`.
    counts: tf.Tensor  # See `accepted`, `rejected` and `reached`.

    @property
    def t(self) -> tf.Tensor:
        """The time reached."""
        return self.clock[0]

    @property
    def h(self) -> tf.Tensor:
        """The size of the next step.

        It is 0 once it is below the resolution of time; NaN where even the shortest step
        gives a state that is not finite.
        """
        return self.clock[1]

    @property
    def ratio(self) -> tf.Tensor:
        """Error over tolerance of the last accepted step."""
        return self.clock[2]

    @property
    def accepted(self) -> tf.Tensor:
        """The number of accepted steps."""
        return self.counts[0]

    @property
    def rejected(self) -> tf.Tensor:
        """The number of rejected steps."""
        return self.counts[1]

    @property
    def reached(self) -> tf.Tensor:
        """The number of requested times whose states are written."""
        return self.counts[2]

    def with_step(self, h: tf.Tensor) -> "Progress":
        """Return the same place with another size of the next step."""
        return self._replace(clock=tf.stack([self.t, h, self.ratio]))

    def may_go_on(self, max_steps: int) -> tf.Tensor:
        """Return whether neither the budget of steps is spent nor the step too small."""
        return (self.accepted + self.rejected < max_steps) & (self.h > 0.0)


class Trial(NamedTuple):
    """A step that was tried."""

    begin: tf.Tensor
    t: tf.Tensor  # The time at its end.
    h: tf.Tensor  # With sign.
    y: State
    q: State
    ks: list[State]  # The derivatives: those of the stages, then that at the end of the step.
    last: tuple[State, State]  # The field at `(t, y)`, as it returned it.
    ratio: tf.Tensor
    accept: tf.Tensor
    lands: tf.Tensor
