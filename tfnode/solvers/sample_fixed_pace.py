"""`SampleFixedPace`: the part of `FixedSteps` in a solve in which each sample has its clock."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfnode.solvers.controller import End, Solve
from tfnode.solvers.failure import Caller, finite
from tfnode.solvers.fixed_pace import Attempt, FixedPace, FixedPlace, FixedTrial, Interval
from tfnode.solvers.rows import chosen, put, take
from tfnode.solvers.solver import State
from tfnode.solvers.stages import add, expand, increment, stages
from tfnode.solvers.stops import count_reached, inside
from tfnode.solvers.trajectory import Stats

if TYPE_CHECKING:
    from tfnode.solvers.fixed_steps import FixedSteps


class SampleFixedPace(FixedPace):
    """The steps of one solve by `FixedSteps`, each sample with its own.

    Each interval of the times is a leg, in which samples have different numbers of steps, and
    in an interval of length zero none.

    Args:
        control: The `FixedSteps`.
        solve: The `Solve`.
        failed: `(batch,)`, the samples of which an earlier solve found that they fail, or `None`.
    """

    def __init__(self, control: "FixedSteps", solve: Solve, failed: tf.Tensor | None = None):
        self.control, self.solve, self.failed = control, solve, failed
        self.stage_rows, times = solve.tableau.solution_rows, solve.times
        self.legs = times.shape[1] - 1 if times.shape[1] else tf.shape(times)[1] - 1
        self.most, self.straight = control.num_steps, control.num_steps == 1
        # All legs may have steps: nobody knows which samples end early.
        known = isinstance(self.legs, int) and control.num_steps is not None
        self.total = self.legs * control.num_steps if known else None

    def number_in(self, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        """Return the number of steps of each sample in an interval, or in several."""
        return tf.where(tf.equal(start, end), 0, self.control.number(start, end))

    def start(self, y: State, q: State) -> FixedPlace:
        self.y0, times, zero = y, self.solve.times, tf.zeros([], tf.int32)
        t, none = times[:, 0], tf.zeros_like(times[:, 0], tf.int32) - 1
        return FixedPlace(y, q, zero, Attempt(t, times[:, 1] - t, none))

    def leg(self, index: Any, now: FixedPlace) -> Interval:
        start, end = (tf.gather(self.solve.times, i, axis=1) for i in (index, index + 1))
        steps = self.number_in(start, end)
        if self.failed is not None:
            steps = tf.where(self.failed, 0, steps)
        h = self.control.size(start, end, tf.maximum(steps, 1))
        return Interval(index, start, end, steps, h, now.accepted)

    def unfinished(self, leg: Interval, now: FixedPlace) -> tf.Tensor:
        return now.accepted - leg.before < tf.reduce_max(leg.steps)

    def try_step(self, leg: Interval, now: FixedPlace) -> FixedTrial:
        j = now.accepted - leg.before
        active = j < leg.steps
        begin, end = (
            tf.where(i < leg.steps, leg.start + tf.cast(i, leg.h.dtype) * leg.h, leg.end)
            for i in (j, j + 1)
        )
        h = tf.where(active, leg.h, tf.zeros_like(leg.h))
        rows = chosen(active, self.solve.drop, self.failed)
        y, size = [take(x, rows) for x in now.y], take(h, rows)

        def field(t: tf.Tensor, y: State) -> tuple[State, State]:
            return self.solve.field(t, y, rows)

        edges = begin, end
        if self.solve.stops is not None:
            edges = inside(begin, end)
        first, last = (take(x, rows) for x in edges)
        ks, _ = stages(self.stage_rows, field, first, y, size, end=last)
        change = increment(self.solve.tableau.b, size, ks)
        # The sum with zeros would not leave a state of the others as it is, where it is NaN.
        y = add(now.y, [put(x, rows, z) for x, z in zip(change, now.y)])
        y = [tf.where(expand(active, x), x, z) for x, z in zip(y, now.y)]
        arrives = j + 1 >= leg.steps
        reached = leg.index + 1 + tf.cast(arrives, tf.int32)
        if self.solve.stops is not None:
            # Several of the times may be the same.
            reached = tf.where(arrives, count_reached(self.solve.times, leg.end), reached)
        return FixedTrial(begin, h, y, [], reached)

    def advance(self, now: FixedPlace, trial: FixedTrial, reached: tf.Tensor) -> FixedPlace:
        going = tf.not_equal(trial.h, 0.0)
        fine = finite(now.y, samples=True) & going
        number = now.last.number + tf.cast(fine, tf.int32)
        here = (tf.stop_gradient(trial.begin), tf.stop_gradient(trial.h))
        t, h = (tf.where(fine, a, b) for a, b in zip(here, now.last))
        return FixedPlace(trial.y, [], now.accepted + 1, Attempt(t, h, number))

    def finish(self, now: FixedPlace, caller: Caller) -> End:
        times = self.solve.times
        steps = tf.reduce_sum(self.number_in(times[:, :-1], times[:, 1:]), 1)
        t, h, number = now.last[0], now.last[1], tf.maximum(now.last[2], 0)
        facts = ["time reached =", caller.time(t), "steps =", number, "last step size =", h]
        stats = Stats(steps * len(self.stage_rows), steps, tf.zeros_like(steps))
        sound = finite(self.y0, samples=True)
        failed = ~finite(now.y, samples=True)
        if self.failed is not None:
            failed |= self.failed
        return End(failed, self.reasons(sound), facts, stats)
