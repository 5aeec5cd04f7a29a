"""The search for the events of independent samples."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.events.crossing import crossing, too_near
from tfnode.gradients.tapes import recorded
from tfnode.problem import Problem
from tfnode.solvers.controller import Solve
from tfnode.solvers.error_pace import where
from tfnode.solvers.progress import Progress
from tfnode.solvers.sample_pace import SamplePace
from tfnode.solvers.stages import add, increment, stages


class _Place(NamedTuple):
    """How far the search is.

    Attributes:
        now: The `Progress`, for a sample with an event at the step before it.
        signs: `(batch, k)`, the last sign that is not zero of the event function.
        h: `(batch,)`, the size of the step in which the event lies; 0 where there is none yet.
        crossed: `(batch, k)` booleans, which elements changed their sign in that step.
    """

    now: Progress
    signs: tf.Tensor
    h: tf.Tensor
    crossed: tf.Tensor


class SampleSearch:
    """The search for the first event of every sample."""

    def __init__(self, solver: Any, problem: Problem, event: Any, direction: int):
        self.problem, self.event, self.direction = problem, event, direction
        self.tableau = solver.tableau
        self.field = recorded(problem.vector_field.bind(problem.vector_field.reads))
        clocks = Solve(self.tableau, self.field, problem.times, final_only=True, drop=problem.drop)
        self.pace = SamplePace(solver.controller, clocks)

    def values(self, t: tf.Tensor, y: list) -> tf.Tensor:
        """Return the event function `(batch, k)` at elapsed times."""
        return self.event(self.problem.caller_time(t), y)

    def run(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the elapsed times, which samples have an event and which, and which failed."""
        now = self.pace.start(self.problem.y0, [])
        self.first = self.values(now.t, now.y)
        signs = tf.sign(self.first)
        (place,) = tf.while_loop(
            lambda place: self.pace.unfinished(None, place.now),
            lambda place: (self._step(place),),
            (_Place(now, signs, tf.zeros_like(now.t), tf.zeros_like(signs, tf.bool)),),
            maximum_iterations=self.pace.total,
            parallel_iterations=1,
        )
        happened = tf.reduce_any(place.crossed, 1)

        def value(fraction: tf.Tensor) -> tf.Tensor:
            smallest = tf.reduce_min(self._distances(place, fraction), 1)
            return tf.where(happened, smallest, tf.zeros_like(smallest))

        fraction = crossing(value, happened, place.now.t, place.h)
        distances = self._distances(place, fraction)
        which = tf.argmin(distances, 1, output_type=tf.int32)
        failed = ~happened & tf.not_equal(place.now.t, self.pace.last())
        return place.now.t + fraction * place.h, happened, tf.where(happened, which, -1), failed

    def _step(self, place: _Place) -> _Place:
        now = place.now
        trial = self.pace.try_step(None, now)
        after = self.pace.advance(now, trial, now.reached)
        values = self.values(after.t, after.y)
        accept = trial.accept[:, tf.newaxis]
        start, h = self.problem.origin[:, tf.newaxis], trial.h[:, tf.newaxis]
        again = too_near(self.first, values, start, h) & tf.equal(now.accepted, 0)[:, tf.newaxis]
        signs = tf.where(again, tf.zeros_like(place.signs), place.signs)
        crossed = accept & (signs * values <= 0.0) & tf.not_equal(signs, 0.0)
        if self.direction:
            crossed &= tf.equal(signs, -float(self.direction))
        found = tf.reduce_any(crossed, 1)
        # A sample with an event stays where the step began, and takes no other.
        stay = now.with_step(tf.zeros_like(now.h))

        def choose(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
            return where(found, a, b)

        there = Progress(
            y=[choose(a, b) for a, b in zip(stay.y, after.y)],
            q=[],
            derivative=(
                [choose(a, b) for a, b in zip(stay.derivative[0], after.derivative[0])],
                [],
            ),
            clock=tf.where(found, stay.clock, after.clock),
            counts=tf.where(found, stay.counts, after.counts),
        )
        turned = accept & ~found[:, tf.newaxis] & tf.not_equal(values, 0.0)
        return _Place(
            there,
            tf.where(turned, tf.sign(values), signs),
            tf.where(found, trial.h, place.h),
            tf.where(found[:, tf.newaxis], crossed, place.crossed),
        )

    def _distances(self, place: _Place, fraction: tf.Tensor) -> tf.Tensor:
        """Return what falls to zero at the event, for the elements that crossed, else infinity."""
        now, size = place.now, fraction * place.h
        ks, _ = stages(self.tableau.rows, self.field, now.t, now.y, size, first=now.derivative)
        values = self.values(now.t + size, add(now.y, increment(self.tableau.b, size, ks)))
        far = tf.constant(float("inf"), values.dtype)
        return tf.where(place.crossed, place.signs * values, far)
