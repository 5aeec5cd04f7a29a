"""`FixedPace`: the part of `FixedSteps` in one solve."""

from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tfnode.solvers.controller import End, Pace, Solve
from tfnode.solvers.failure import Caller, compiled_by_xla, finite
from tfnode.solvers.solver import State
from tfnode.solvers.stages import add, increment, stages
from tfnode.solvers.stops import count_reached, inside
from tfnode.solvers.trajectory import Stats

if TYPE_CHECKING:
    from tfnode.solvers.fixed_steps import FixedSteps


class Attempt(NamedTuple):
    """The last step that began from a finite state: where a solve failed, if it did."""

    t: tf.Tensor
    h: tf.Tensor
    number: tf.Tensor


class FixedPlace(NamedTuple):
    """Where a solve is."""

    y: State
    q: State
    accepted: tf.Tensor
    last: Any  # The `Attempt`; `()` under XLA, which has no errors.


class Interval(NamedTuple):
    """A leg, between two requested times."""

    index: Any
    start: tf.Tensor
    end: tf.Tensor
    steps: Any
    h: tf.Tensor
    before: tf.Tensor  # The number of steps before it.


class FixedTrial(NamedTuple):
    """A step."""

    begin: tf.Tensor
    h: tf.Tensor
    y: State
    q: State
    reached: tf.Tensor


class FixedPace(Pace):
    """The steps of one solve by `FixedSteps`: each interval of the times is a leg."""

    lands = True

    def __init__(self, control: "FixedSteps", solve: Solve):
        self.control, self.solve, times = control, solve, solve.times
        self.stage_rows = solve.tableau.solution_rows
        self.legs = times.shape[0] - 1 if times.shape[0] else tf.shape(times)[0] - 1
        self.most = control.num_steps
        # Two times may be the same where there are step times.
        self.straight = control.num_steps == 1 and solve.stops is None
        if control.num_steps is not None and solve.stops is None:
            self.steps = tf.convert_to_tensor(self.legs * control.num_steps, tf.int32)
        else:
            self.steps = tf.reduce_sum(self.number_in(times[:-1], times[1:]))
        known = tf.get_static_value(self.steps)
        self.total = None if known is None else int(known)
        if known is None and self.most is not None and isinstance(self.legs, int):
            self.total = self.legs * self.most
        self.ends: Any = None
        if isinstance(self.legs, int) and self.legs == 1:
            self.ends = tf.unstack(times, 2)

    def number_in(self, start: tf.Tensor, end: tf.Tensor) -> Any:
        """Return the number of steps in an interval, or in several."""
        number = self.control.number(start, end)
        return number if self.solve.stops is None else tf.where(tf.equal(start, end), 0, number)

    def start(self, y: State, q: State) -> FixedPlace:
        times, zero = self.solve.times, tf.zeros([], tf.int32)
        last: Any = ()
        if not compiled_by_xla():
            steps = self.control.number(times[0], times[1])
            last = Attempt(times[0], (times[1] - times[0]) / tf.cast(steps, times.dtype), zero)
        if self.ends is None:
            # Under XLA slices have no second derivatives; the first ones of gathers are not dense.
            ends = tf.TensorArray(
                times.dtype, self.legs + 1, element_shape=[], clear_after_read=False
            )
            self.ends = ends.unstack(times)
        self.y0 = y
        return FixedPlace(y, q, zero, last)

    def leg(self, index: Any, now: FixedPlace) -> Interval:
        if isinstance(self.ends, list):
            start, end = self.ends
        else:
            start, end = self.ends.read(index), self.ends.read(index + 1)
        steps = self.number_in(start, end)
        h = self.control.size(start, end, tf.maximum(steps, 1))
        return Interval(index, start, end, steps, h, now.accepted)

    def unfinished(self, leg: Interval, now: FixedPlace) -> tf.Tensor:
        return now.accepted - leg.before < leg.steps

    def try_step(self, leg: Interval, now: FixedPlace) -> FixedTrial:
        start, h = leg.start, leg.h
        j = 0 if self.straight else now.accepted - leg.before
        is_last = tf.equal(j + 1, leg.steps)
        t = start + tf.cast(j, h.dtype) * h
        end = tf.where(is_last, leg.end, start + tf.cast(j + 1, h.dtype) * h)
        # Where the two agree for constant times, XLA's compiler drops the choice, and then rounds
        # the sum in another way.
        end = tf.clip_by_value(end, tf.minimum(start, leg.end), tf.maximum(start, leg.end))
        reached = leg.index + 1 + tf.cast(is_last, tf.int32)
        begin = t
        if self.solve.stops is not None:
            # Several of the times may be the same.
            reached = tf.where(is_last, count_reached(self.solve.times, end), reached)
            begin, end = inside(t, end)
        ks, qs = stages(self.stage_rows, self.solve.field, begin, now.y, h, end=end)
        b = self.solve.tableau.b
        y = add(now.y, increment(b, h, ks))
        q = add(now.q, increment(b, h, qs)) if now.q else now.q
        return FixedTrial(t, h, y, q, reached)

    def output(self, now: FixedPlace, trial: FixedTrial, arrays: list) -> tuple[tf.Tensor, list]:
        return trial.reached, arrays

    def advance(self, now: FixedPlace, trial: FixedTrial, reached: tf.Tensor) -> FixedPlace:
        last = now.last
        if last:
            fine = finite(now.y)
            here = Attempt(tf.stop_gradient(trial.begin), tf.stop_gradient(trial.h), now.accepted)
            last = Attempt(*(tf.where(fine, a, b) for a, b in zip(here, last)))
        return FixedPlace(trial.y, trial.q, now.accepted + 1, last)

    def finish(self, now: FixedPlace, caller: Caller) -> End:
        facts = []
        if now.last:
            t, h, number = now.last
            facts = ["time reached =", caller.time(t), "steps =", number, "last step size =", h]
        stats = Stats(self.steps * len(self.stage_rows), self.steps, tf.zeros([], tf.int32))
        # Where the last state is finite, all are: a sum with NaN or infinity is never finite.
        return End(~finite(now.y), self.reasons(finite(self.y0)), facts, stats)

    @staticmethod
    def reasons(sound: tf.Tensor) -> list:
        """Return the reasons for a failure, as in `End`; `sound` says whether `y0` is finite."""
        return [
            ("`y0` is not finite already. Look for NaN before the solve.", ~sound),
            (
                "the state or its derivative is not finite. Try more steps, float64, or a solver "
                "that chooses its steps, and check the dynamics for NaN.",
                sound,
            ),
        ]
