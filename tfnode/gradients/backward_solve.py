"""The backward solve of the gradient 'adjoint'."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfnode.gradients import custom
from tfnode.gradients.base import BackwardStats
from tfnode.gradients.reconstruction import relative_distance
from tfnode.gradients.reverse_step import along
from tfnode.gradients.tapes import recorded, vjp
from tfnode.problem.field.sources import value_of
from tfnode.solvers.failure import Caller, nan_where
from tfnode.solvers.rows import Rows, first_sound
from tfnode.solvers.stages import expand
from tfnode.solvers.stops import inside


class BackwardSolve:
    """The augmented ODE, solved from each requested time back to the one before.

    Args:
        solved: The `Solved`.
        solver: The `Solver` of the backward solve.
        check: The `ReconstructionCheck`.
        cotangents: List of tensors, the gradients in the outputs.
    """

    DURING = (
        " in the backward solve of the gradient 'adjoint'; the forward solve succeeded, and the "
        "gradient 'checkpoint' needs no backward solve"
    )

    def __init__(self, solved: custom.Solved, solver: Any, check: Any, cotangents: list):
        self.solved, self.solver, self.check = solved, solver, check
        self.size, self.times = len(solved.y0), solved.times
        self.states, self.y0 = solved.trajectory.states, solved.y0
        self.failed = solved.trajectory.failed
        self.caller = Caller(solved.origin, self.DURING)
        # The adjoint of a quadrature is constant.
        self.cotangents, self.q_bar = cotangents[: self.size], cotangents[self.size :]

    def run(self) -> tuple:
        """Return the gradients in `y0`, the sources and the times, and the stats."""
        request, times, cotangents = self.solved.request, self.times, self.cotangents
        g = [tf.zeros_like(value_of(s)) for s in self.solved.field.sources]
        if request.final_only:
            rate = self._rate(times[..., -1], self.states, cotangents, self.q_bar)
            adjoint, g, stats, reached, _ = self._segment(
                tf.reverse(times, [-1]), self.states, list(cotangents), g, self.y0, None
            )
            none = tf.zeros_like(tf.transpose(times)[1:-1])
            rates = tf.concat([none, rate[tf.newaxis]], 0)
        else:
            adjoint, g, stats, reached, rates = self._segments(g)
        # A forward solve that failed without an error has nothing to compare.
        reached = tf.where(self.failed, tf.zeros_like(reached[0]), reached[0]), reached[1]
        stats, lost = self.check.judged(stats, reached)
        lost |= self.failed
        first = -self._rate(self._after(0), self.y0, adjoint, self.q_bar)
        if not request.final_only:
            adjoint = [a + c[0] for a, c in zip(adjoint, cotangents)]
        if request.time_gradient:
            taken = 2 if request.final_only else tf.shape(times)[-1]
            stats = stats._replace(num_evaluations=stats.num_evaluations + taken)
        rates = tf.transpose(tf.concat([first[tf.newaxis], rates], 0))
        gradients = adjoint, g, rates
        return *tf.nest.map_structure(lambda x: nan_where(lost, x), gradients), stats

    def _field(self, t: tf.Tensor, y: list) -> list:
        dy, dq = recorded(self.solved.field)(t, y)
        return [*dy, *dq]

    def _between(self, times: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        """Return the times of a solver that goes back through these, and its field."""
        if self.solved.stops is not None:
            times = tf.stack(inside(times[0], times[1]))
        return times, self._field

    def _augmented(self, field: Callable) -> Callable:
        """Return the field of the state and its adjoint, and of the gradients in the sources."""
        size = self.size

        def augmented(t: tf.Tensor, state: list) -> tuple[list, list]:
            # The product is linear in the cotangent, so the sign is cheapest there.
            negative = [-a for a in (*state[size:], *self.q_bar)]
            dy, y_bar, sources_bar = recorded(vjp)(
                field, self.solved.field.sources, t, state[:size], negative
            )
            return [*dy[:size], *y_bar], sources_bar

        return augmented

    def _rate(self, t: tf.Tensor, y: list, adjoint: list, q_bar: list) -> tf.Tensor:
        """Return `adjoint . f(t, y)`: how the loss changes with the time at which y is read.

        Quadratures are read at the last time alone.
        """
        if not self.solved.request.time_gradient:
            return tf.zeros_like(t)
        return along([*adjoint, *q_bar], self._field(t, y), t)

    def _time(self, i: Any) -> tf.Tensor:
        return tf.gather(self.times, i, axis=-1)

    def _before(self, i: Any) -> tf.Tensor:
        """Return the time before which the dynamics are those of the step to time `i`."""
        t, first = self._time(i), self.times[..., 0]
        return t if self.solved.stops is None else tf.math.nextafter(t, first)

    def _after(self, i: Any) -> tf.Tensor:
        """Return the same on the other side."""
        t, last = self._time(i), self.times[..., -1]
        return t if self.solved.stops is None else tf.math.nextafter(t, last)

    def _jump(self, i: Any, y: list, adjoint: list) -> tf.Tensor:
        """Return how the loss changes with time `i`, if the dynamics jump there.

        Of several times that are the same it is the last, for then that is a step time.
        """
        change = self._rate(self._before(i), y, adjoint, [])
        change -= self._rate(self._after(i), y, adjoint, [])
        following = self._time(tf.minimum(i + 1, tf.shape(self.times)[-1] - 1))
        return tf.where(tf.equal(self._time(i), following), tf.zeros_like(change), change)

    def _segment(self, times, y, adjoint, g, goal, first_step) -> tuple:
        """Solve back through these times, and compare the state at the last with the stored one."""
        span, field = self._between(times)
        result = self.solver.integrate(
            self._augmented(field),
            [*y, *adjoint],
            span,
            quadratures=g,
            final_only=True,
            first_step=first_step,
            caller=self.caller,
        )
        found = result.states[: self.size]
        step = first_step if result.step is None else result.step
        stats = BackwardStats(*result.stats, relative_distance(found, goal))
        reached = self.check.reached(found, goal, times[..., -1])
        return result.states[self.size :], result.quadratures, stats, reached, step

    def _first_step(self) -> tuple[tf.Tensor, int]:
        """Return the size of the first step, and the evaluations it took to find."""
        start = [x[-1] for x in (*self.states, *self.cotangents)]
        # With stops the last two times may be the same.
        early = self._time(0 if self.solved.stops is not None else tf.shape(self.times)[-1] - 2)
        span, field = self._between(tf.stack([self.times[..., -1], early], -1))
        return self.solver.initial_step(self._augmented(field), span[0], start, span[1] - span[0])

    def _segments(self, g: list) -> tuple:
        """Solve from each requested time back to the one before, last to first."""
        times, states, cotangents = self.times, self.states, self.cotangents
        count = tf.shape(times)[-1] - 1
        step, spent = self._first_step()

        def body(i, adjoint, g, stats, worst, rates, step):
            t, y = self._time(i), [tf.gather(s, i) for s in states]
            arriving = [tf.gather(c, i) for c in cotangents]
            is_last = tf.equal(i, count)
            q_bar = [tf.where(is_last, a, tf.zeros_like(a)) for a in self.q_bar]
            rate = self._rate(self._before(i), y, arriving, q_bar)
            if self.solved.stops is not None:
                rate += self._jump(i, y, adjoint)
            rates = rates.write(i - 1, rate)
            jumped = [a + c for a, c in zip(adjoint, arriving)]
            goal = [tf.gather(s, i - 1) for s in states]
            interval = tf.stack([t, self._time(i - 1)], -1)
            adjoint, g, cost, reached, step = self._segment(interval, y, jumped, g, goal, step)
            error = tf.maximum(stats.reconstruction_error, cost.reconstruction_error)
            stats = BackwardStats(*(a + b for a, b in zip(stats[:3], cost[:3])), error)
            return i - 1, adjoint, g, stats, self.check.worse(worst, reached), rates, step

        zero = tf.zeros([], tf.int32)
        _, adjoint, g, stats, worst, rates, _ = tf.while_loop(
            lambda i, *_: i > 0,
            body,
            (
                count,
                [tf.zeros_like(s[0]) for s in states],
                g,
                BackwardStats(zero + spent, zero, zero, tf.zeros([])),
                self.check.start(times),
                tf.TensorArray(times.dtype, count, element_shape=times.shape[:-1]),
                step,
            ),
            maximum_iterations=count,
            parallel_iterations=1,
        )
        return adjoint, g, stats, worst, rates.stack()


class SampleBackwardSolve(BackwardSolve):
    """The same where every sample has its own times.

    The clock of the backward solve is the fraction of an interval, from 0 to 1. All samples
    share it, and so its steps, whose error is that of the batch:

    ```
    t = late + s (early - late)      dy/ds = (early - late) f(t, y)
    ```

    The gradient in the parameters is then a quadrature for the batch. In an interval of length
    zero nothing happens.
    """

    DURING = (
        " in the backward solve of the gradient 'adjoint', whose times are fractions of an "
        "interval; the forward solve succeeded, and the gradient 'checkpoint' needs no "
        "backward solve"
    )

    def __init__(self, solved: custom.Solved, solver: Any, check: Any, cotangents: list):
        super().__init__(solved, solver, check, cotangents)
        self.caller = Caller(None, self.DURING)
        # Another sample stands for one that failed, whose derivatives may be NaN.
        failed = solved.trajectory.failed
        own = tf.range(tf.size(failed))
        self.rows = Rows(own, tf.where(failed, first_sound(failed), own))
        self.failed = tf.constant(False)
        read = self.rows.read
        self.times = tf.gather(self.times, read)
        self.y0 = [tf.gather(x, read) for x in self.y0]
        axis = 0 if solved.request.final_only else 1
        self.states = [tf.gather(x, read, axis=axis) for x in self.states]

    def _field(self, t: tf.Tensor, y: list) -> list:
        return recorded(self.solved.field)(t, y, self.rows)[0]

    def _between(self, times: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        late, early = times[:, 0], times[:, 1]
        if self.solved.stops is not None:
            late, early = inside(late, early)

        def field(s: tf.Tensor, y: list) -> list:
            dy = self._field(late + s * (early - late), y)
            return [expand(tf.cast(early - late, x.dtype), x) * x for x in dy]

        return tf.constant([0.0, 1.0], self.times.dtype), field
