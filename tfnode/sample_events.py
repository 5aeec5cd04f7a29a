"""The events of independent samples, each at its own time."""

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.eager import record

from tfnode.gradients.reverse_step import along
from tfnode.gradients.tapes import recorded
from tfnode.integrate import solve as solve_to_times
from tfnode.problem import Problem
from tfnode.solvers import step_control
from tfnode.solvers.controller import Solve
from tfnode.solvers.error_pace import where
from tfnode.solvers.failure import compiled_by_xla, nan_samples
from tfnode.solvers.progress import Progress
from tfnode.solvers.sample_pace import SamplePace
from tfnode.solvers.stages import add, expand, increment, stages

ITERATIONS = 60


class SampleEvents(NamedTuple):
    """The events of a batch.

    Attributes:
        times: `(batch,)`, the times of the events; the last time where there was none.
        states: `y0` and the states at these times, stacked on a new first axis.
        happened: `(batch,)` booleans, whether there was an event.
        which: `(batch,)` int32, the element of the event function that was zero; -1 for none.
    """

    times: tf.Tensor
    states: Any
    happened: tf.Tensor
    which: tf.Tensor


@tf.autograph.experimental.do_not_convert
def solve(
    func: Any,
    y0: Any,
    t0: Any,
    event_fn: Any,
    reverse_time: bool,
    t1: Any,
    direction: int,
    solver: Any,
    gradient: Any,
) -> SampleEvents:
    """Solve as `tfnode.odeint_event` does for independent samples."""
    batch = tf.shape(tf.convert_to_tensor(tf.nest.flatten(y0)[0]))[:1]

    def clock(name: str, t: Any, dtype: tf.DType) -> tf.Tensor:
        value = tf.cast(t, dtype) if tf.is_tensor(t) else tf.constant(t, dtype)
        if value.shape.rank not in (0, 1):
            raise ValueError(
                f"`{name}` must be a scalar, or of shape (batch,). "
                f"Received: {name} of shape {value.shape}"
            )
        return tf.broadcast_to(value, batch)

    sign = -1.0 if reverse_time else 1.0

    def span(dtype: tf.DType) -> tf.Tensor:
        start = clock("t0", t0, dtype)
        # Nobody may know the last time; it is only a direction then.
        end = start + sign * 1e30 if t1 is None else clock("t1", t1, dtype)
        return tf.stack([start, end], 1)

    problem = Problem(func, y0, span, independent=True)
    problem.refuse_random()
    dtype = problem.time_dtype
    start = clock("t0", t0, dtype)

    def event(t: tf.Tensor, y: list) -> tf.Tensor:
        value = tf.convert_to_tensor(event_fn(t, problem.pack(y)))
        if not value.dtype.is_floating or value.shape.rank not in (1, 2):
            raise ValueError(
                "`event_fn` must return floats of shape (batch,) or (batch, k), whose signs change "
                "at the event. "
                f"Received: a result of dtype={value.dtype.name}, shape={value.shape}"
            )
        value = tf.cast(value, dtype)
        return value if value.shape.rank == 2 else value[:, tf.newaxis]

    with record.stop_recording():
        search = _Search(solver, problem, recorded(event), direction)
        elapsed, happened, which, failed = search.run()
        if t1 is not None:
            # Another solve fails where this one did, and says so.
            failed = tf.zeros_like(failed)
            elapsed = tf.where(happened, elapsed, problem.times[:, 1])
        elif solver.on_failure == "raise" and not compiled_by_xla():
            elapsed = _checked(elapsed, failed, start)
    field = problem.vector_field.bind(problem.vector_field.reads)
    elapsed, at = tf.stop_gradient(elapsed), tf.maximum(which, 0)
    for _ in range(2 if gradient.higher_order else 1):
        times = tf.stack([start, start + elapsed], 1)
        states, _, _ = solve_to_times(func, y0, times, solver, gradient, independent=True)
        y = [tf.cast(x[-1], d.dtype) for x, d in zip(tf.nest.flatten(states), problem.y0)]
        slope, _ = field(elapsed, y)
        change = _correction(event, start + elapsed, y, slope, at, happened)
        elapsed += change
    final = [x + expand(tf.cast(change, x.dtype), x) * dx for x, dx in zip(y, slope)]
    final = problem.pack([nan_samples(failed, x) for x in final])
    states = tf.nest.map_structure(lambda x, last: tf.stack([x[0], last]), states, final)
    return SampleEvents(nan_samples(failed, start + elapsed), states, happened, which)


def _checked(elapsed: tf.Tensor, failed: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    here = tf.where(failed)[:, 0]
    check = tf.debugging.Assert(
        ~tf.reduce_any(failed),
        [
            "No event in some of the samples: the event function kept its sign, or was NaN, until "
            "the solver failed or had spent its `max_steps`. Give `t1`, the last time to look at, "
            "or check the event function, `direction` and `reverse_time`. Received: samples =",
            here,
            "time reached =",
            tf.gather(start + elapsed, here),
        ],
        5,
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(elapsed)


def _correction(
    event: Any, time: tf.Tensor, y: list, slope: list, at: tf.Tensor, happened: tf.Tensor
) -> tf.Tensor:
    """Return zeros with the gradients of the events' times.

    They are steps of Newton's method for `g(t, y(t)) = 0`, whose value is known to be zero.
    """
    with tf.GradientTape() as tape:
        tape.watch([time, *y])
        value = tf.gather(event(time, y), at, batch_dims=1)
    by_time, *by_y = tape.gradient(
        value, [time, *y], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    rate = tf.where(happened, by_time + along(by_y, slope, time), tf.ones_like(time))
    residual = tf.where(happened, value - tf.stop_gradient(value), tf.zeros_like(time))
    return -residual / rate


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


class _Search:
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
        signs = tf.sign(self.values(now.t, now.y))
        (place,) = tf.while_loop(
            lambda place: self.pace.unfinished(None, place.now),
            lambda place: (self._step(place),),
            (_Place(now, signs, tf.zeros_like(now.t), tf.zeros_like(signs, tf.bool)),),
            maximum_iterations=self.pace.total,
            parallel_iterations=1,
        )
        happened = tf.reduce_any(place.crossed, 1)
        fraction = self._within(place, happened)
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
        crossed = accept & (place.signs * values <= 0.0) & tf.not_equal(place.signs, 0.0)
        if self.direction:
            crossed &= tf.equal(place.signs, -float(self.direction))
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
            tf.where(turned, tf.sign(values), place.signs),
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

    def _within(self, place: _Place, happened: tf.Tensor) -> tf.Tensor:
        """Return at which fractions of the steps the events lie, by the Illinois method."""
        h, one = place.h, tf.ones_like(place.h)
        resolution = 4.0 * step_control.epsilon(h.dtype)
        scale = tf.maximum(tf.abs(place.now.t), tf.abs(h))

        def value(fraction: tf.Tensor) -> tf.Tensor:
            smallest = tf.reduce_min(self._distances(place, fraction), 1)
            return tf.where(happened, smallest, 0.0 * one)

        def wide(a: tf.Tensor, b: tf.Tensor, fb: tf.Tensor) -> tf.Tensor:
            return happened & (fb < 0.0) & ((b - a) * tf.abs(h) > resolution * scale)

        def narrow(i: Any, a: Any, fa: Any, b: Any, fb: Any, side: Any) -> tuple:
            going = wide(a, b, fb)
            c = tf.math.divide_no_nan(a * fb - b * fa, fb - fa)
            # Where rounding leaves nothing between, halve.
            c = tf.where((c > a) & (c < b), c, 0.5 * (a + b))
            fc = value(c)
            right = fc <= 0.0
            new = tf.where(right, 1, -1)
            # An end that stays a second time counts half, or it might stay for ever.
            weight = tf.where(tf.equal(new, side), 0.5 * one, one)
            after = (
                tf.where(right, a, c),
                tf.where(right, weight * fa, fc),
                tf.where(right, c, b),
                tf.where(right, fc, weight * fb),
                new,
            )
            kept = (a, fa, b, fb, side)
            return i + 1, *(tf.where(going, x, z) for x, z in zip(after, kept))

        zero = tf.zeros([], tf.int32)
        _, _, _, fraction, _, _ = tf.while_loop(
            lambda i, a, fa, b, fb, side: tf.reduce_any(wide(a, b, fb)),
            narrow,
            (zero, 0.0 * one, value(0.0 * one), one, value(one), tf.zeros_like(one, tf.int32)),
            maximum_iterations=ITERATIONS,
            parallel_iterations=1,
        )
        return fraction
