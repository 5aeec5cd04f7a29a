"""`SamplePace`: the part of `ErrorControl` in one solve in which each sample has its clock."""

import math
from typing import TYPE_CHECKING

import tensorflow as tf

from tfnode.solvers.controller import End, Solve
from tfnode.solvers.error_pace import ErrorPace, where
from tfnode.solvers.failure import Caller, finite
from tfnode.solvers.progress import Progress, Trial
from tfnode.solvers.rows import chosen, put, take
from tfnode.solvers.solver import State
from tfnode.solvers.stages import add, dense_weights, increment
from tfnode.solvers.trajectory import Trajectory

if TYPE_CHECKING:
    from tfnode.solvers.error_control import ErrorControl


class SamplePace(ErrorPace):
    """The steps of one solve by `ErrorControl`, each sample with its own.

    An iteration is a trial of every sample that is not done yet. Every number of the shared step
    is one for each sample here: time, size, error, counters.
    """

    failed: tf.Tensor | None = None  # The samples of which an earlier solve found that they fail.

    def start(self, y: State, q: State) -> Progress:
        now = super().start(y, q)
        zero = tf.zeros_like(now.t, tf.int32)
        sound = finite([*now.y, *now.derivative[0]], samples=True)
        h = tf.where(sound, now.h, math.nan)
        return now.with_step(h)._replace(counts=tf.stack([zero, zero, zero + 1]))

    def tried(self, now: Progress) -> tf.Tensor:
        """Return for which samples an iteration counts."""
        return self.active(now)

    def number(self, now: Progress) -> tf.Tensor:
        # Every sample that is not done tries a step in every iteration.
        return tf.maximum(tf.reduce_max(now.accepted + now.rejected), 0)

    def taken(self, trial: Trial) -> tf.Tensor:
        return tf.where(trial.accept, trial.h, tf.zeros_like(trial.h))

    def unfinished(self, leg: None, now: Progress) -> tf.Tensor:
        return tf.reduce_any(self.active(now))

    def requested(self, index: tf.Tensor) -> tf.Tensor:
        """Return a requested time of each sample, the last where there are no more."""
        times = self.solve.times
        return tf.gather(times, tf.minimum(index, tf.shape(times)[1] - 1), batch_dims=1)

    def try_step(self, leg: None, now: Progress) -> Trial:
        active = self.active(now)
        rows = chosen(active, self.solve.drop, self.failed)
        # A sample that is done takes a step of size 0.
        sizes = tf.where(active, now.h, tf.zeros_like(now.h))
        end = tf.where(active, self.target(now), now.t)
        clock = tf.stack([now.t, sizes, now.ratio])
        here = Progress(
            [take(x, rows) for x in now.y],
            [],
            ([take(x, rows) for x in now.derivative[0]], []),
            take(clock, rows, axis=1),
            take(now.counts, rows, axis=1),
        )

        def field(t: tf.Tensor, y: State) -> tuple[State, State]:
            return self.solve.field(t, y, rows)

        trial = self.step_towards(take(end, rows), here, take(self.direction, rows), field)
        outputs = not self.solve.final_only and self.solve.tableau.dense is not None
        t, h, ratio, accept, lands = (
            put(x, rows, now.t) for x in (trial.t, trial.h, trial.ratio, trial.accept, trial.lands)
        )
        return Trial(
            begin=now.t,
            t=t,
            h=h,
            y=[put(x, rows, z) for x, z in zip(trial.y, now.y)],
            q=[],
            ks=[[put(x, rows, z) for x, z in zip(k, now.y)] for k in trial.ks] if outputs else [],
            last=([put(x, rows, z) for x, z in zip(trial.last[0], now.y)], []),
            ratio=ratio,
            accept=accept & active,
            lands=lands,
        )

    def arrays(self, y: State) -> list:
        # A tensor array has no writes to some of the samples.
        size = self.solve.times.shape[1] or tf.shape(self.solve.times)[1]
        return [tf.repeat(x[tf.newaxis], size, 0) for x in y]

    def stacked(self, arrays: list) -> list:
        return arrays

    def output(self, now: Progress, trial: Trial, arrays: list) -> tuple[tf.Tensor, list]:
        if self.solve.final_only:
            return now.reached, arrays
        times, dense = self.solve.times, self.solve.tableau.dense
        count, samples = tf.shape(times)[1], tf.range(tf.shape(times)[0])

        def passed(i: tf.Tensor) -> tf.Tensor:
            beyond = (trial.t - self.requested(i)) * self.direction >= 0.0
            return trial.accept & (i < count) & beyond

        def write(i: tf.Tensor, arrays: list) -> tuple[tf.Tensor, list]:
            here, y = passed(i), trial.y
            if dense is not None:
                elapsed = tf.where(here, self.requested(i) - now.t, tf.zeros_like(now.t))
                theta = elapsed / tf.where(here, trial.h, tf.ones_like(trial.h))
                y = add(now.y, increment(dense_weights(dense, theta), trial.h, trial.ks))
            place = tf.stack([tf.minimum(i, count - 1), samples], 1)
            values = [where(here, x, tf.gather_nd(a, place)) for a, x in zip(arrays, y)]
            arrays = [tf.tensor_scatter_nd_update(a, place, x) for a, x in zip(arrays, values)]
            return i + tf.cast(here, tf.int32), arrays

        return tf.while_loop(
            lambda i, _: tf.reduce_any(passed(i)),
            write,
            (now.reached, arrays),
            maximum_iterations=times.shape[1],
            parallel_iterations=1,
        )

    def advance(self, now: Progress, trial: Trial, reached: tf.Tensor) -> Progress:
        after, active = super().advance(now, trial, reached), self.tried(now)
        return after._replace(
            clock=tf.where(active, after.clock, now.clock),
            counts=tf.where(active, after.counts, now.counts),
        )


class RepeatedSamplePace(SamplePace):
    """The accepted steps of an earlier solve of the same problem, taken again.

    An iteration is one of the earlier solve. For a sample whose step was rejected there, or that
    was done or failed, it counts as rejected.
    """

    def __init__(self, control: "ErrorControl", solve: Solve, steps: Trajectory):
        super().__init__(control, solve)
        self.steps, self.failed = steps, steps.failed

    def start(self, y: State, q: State) -> Progress:
        t = self.solve.times[:, 0]
        # Also here, no derivative of a sample that failed.
        rows = chosen(tf.ones_like(self.steps.failed), False, self.steps.failed)
        slope, _ = self.solve.field(take(self.first_time(), rows), [take(x, rows) for x in y], rows)
        self.evaluations, zero = 1, tf.zeros_like(t, tf.int32)
        clock = tf.stack([t, tf.zeros_like(t), tf.ones_like(t)])
        return Progress(y, q, (slope, []), clock, tf.stack([zero, zero, zero + 1]))

    def active(self, now: Progress) -> tf.Tensor:
        return tf.not_equal(now.h, 0.0)

    def tried(self, now: Progress) -> tf.Tensor:
        return tf.ones_like(now.h, tf.bool)

    def unfinished(self, leg: None, now: Progress) -> tf.Tensor:
        return self.number(now) < self.steps.number

    def try_step(self, leg: None, now: Progress) -> Trial:
        return super().try_step(leg, self.sized(now))

    def advance(self, now: Progress, trial: Trial, reached: tf.Tensor) -> Progress:
        return super().advance(self.sized(now), trial, reached)

    def sized(self, now: Progress) -> Progress:
        """Return the same place with the sizes of the steps that the earlier solve took."""
        h = tf.abs(tf.gather(self.steps.record.h, self.number(now)))
        return now.with_step(tf.where(self.steps.failed, tf.zeros_like(h), h))

    def accepts(self, ratio: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return tf.ones_like(ratio, tf.bool)

    def finish(self, now: Progress, caller: Caller) -> End:
        none = tf.zeros_like(now.accepted)
        now = now._replace(counts=tf.stack([now.accepted, none, now.reached]))
        return super().finish(now, caller).after(self.steps.stats)
