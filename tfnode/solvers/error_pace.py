"""`ErrorPace`: the part of `ErrorControl` in one solve."""

import math
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfnode.solvers import step_control
from tfnode.solvers.controller import End, Pace, Solve
from tfnode.solvers.failure import Caller, finite
from tfnode.solvers.progress import Progress, Trial
from tfnode.solvers.solver import Field, State
from tfnode.solvers.stages import add, dense_weights, expand, increment, stages
from tfnode.solvers.stops import at, inside
from tfnode.solvers.trajectory import Stats, Trajectory

if TYPE_CHECKING:
    from tfnode.solvers.error_control import ErrorControl

# What to do about a solve that failed.
_LOOK = "Look for NaN in `y0`, and in what the dynamics read."
_TRY = (
    "Try looser tolerances, a larger `max_steps`, float64, or a solver for stiff problems, and "
    "check the dynamics for NaN."
)


class ErrorPace(Pace):
    """The steps of one solve by `ErrorControl`.

    One leg goes through all the times; outputs between steps are interpolated. A method without
    dense output lands on every time, and all of them on the last.
    """

    legs, lands, straight = 1, False, False

    def __init__(self, control: "ErrorControl", solve: Solve):
        self.control, self.solve, times = control, solve, solve.times
        self.most = self.total = control.max_steps
        self.span = times[..., -1] - times[..., 0]
        self.evaluations: Any = 0
        self.shortest = "the step is below the resolution of time"
        if control.min_step is not None:
            self.shortest = "the error is too large in a step of the size `min_step` or less"

    def last(self) -> tf.Tensor:
        """Return the last time.

        It is taken where it is used. As an input of the loop it could be a constant, and then
        XLA would have no second derivatives.
        """
        return self.solve.times[..., -1]

    @property
    def direction(self) -> tf.Tensor:
        return tf.sign(self.span)

    def start(self, y: State, q: State) -> Progress:
        t, field, h = self.solve.times[..., 0], self.solve.field, self.solve.first_step
        derivative, self.evaluations = field(self.first_time(), y), 1
        if h is None:
            order = self.solve.tableau.order
            h, spent = self.control.initial_step(order, field, t, y, self.span, derivative[0])
            self.evaluations += spent
        clock = tf.stack([t, h, tf.ones_like(t)])
        return Progress(y, q, derivative, clock, tf.constant([0, 0, 1]))

    def first_time(self) -> tf.Tensor:
        """Return the time of the first evaluation."""
        times = self.solve.times
        first = times[..., 0]
        return first if self.solve.stops is None else tf.math.nextafter(first, times[..., -1])

    def leg(self, index: Any, now: Progress) -> None:
        return None

    def active(self, now: Progress) -> tf.Tensor:
        """Return whether there is another step, or which samples take one."""
        return tf.not_equal(now.t, self.last()) & now.may_go_on(self.control.max_steps)

    def unfinished(self, leg: None, now: Progress) -> tf.Tensor:
        return self.active(now)

    def requested(self, index: tf.Tensor) -> tf.Tensor:
        """Return one of the times."""
        # Unlike a gather, a slice has a dense gradient.
        return tf.slice(self.solve.times, [index], [1])[0]

    def target(self, now: Progress) -> tf.Tensor:
        """Return the time beyond which the next step must not go."""
        if self.solve.tableau.dense is None and not self.solve.final_only:
            return self.requested(now.reached)
        if self.solve.stops is not None:
            return self.requested(at(self.solve.stops, now.reached))
        return self.last()

    def try_step(self, leg: None, now: Progress) -> Trial:
        return self.step_towards(self.target(now), now, self.direction, self.solve.field)

    def step_towards(
        self, end: tf.Tensor, now: Progress, direction: tf.Tensor, field: Field
    ) -> Trial:
        """Return a trial that does not go beyond the time `end`."""
        tableau = self.solve.tableau
        remaining = tf.abs(end - now.t)
        lands = now.h >= remaining * (1.0 - 1e-3)
        t = tf.where(lands, end, now.t + direction * now.h)
        h = t - now.t
        edges = (now.t, t) if self.solve.stops is None else inside(now.t, t)
        ks, qs = stages(tableau.rows, field, edges[0], now.y, h, now.derivative, edges[1])
        y = add(now.y, increment(tableau.b, h, ks))
        error = increment(tableau.error_weights, h, ks)
        ratio = step_control.ratio(error, now.y, y, self.control.rtol, self.control.atol, h)
        accept = self.accepts(ratio, h)
        q = add(now.q, increment(tableau.b, h, qs)) if now.q else now.q
        if tableau.first_same_as_last:
            last = (ks[-1], qs[-1])
        else:
            any_accepted = tf.reduce_any(accept) if accept.shape.rank else accept
            last = tf.cond(any_accepted, lambda: field(edges[1], y), lambda: now.derivative)
            ks = [*ks, last[0]]
        if self.solve.stops is not None:
            # Beyond a stop the dynamics may be others.
            beyond = tf.math.nextafter(t, t + direction)
            landed = accept & lands & tf.not_equal(h, 0.0)
            fresh = tf.cond(tf.reduce_any(landed), lambda: field(beyond, y), lambda: last)
            last = tf.nest.map_structure(lambda a, b: where(landed, a, b), fresh, last)
        return Trial(now.t, t, h, y, q, ks, last, ratio, accept, lands)

    def accepts(self, ratio: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        """Return whether a step of size `h` is accepted whose error is `ratio` tolerances."""
        accept = ratio <= 1.0  # NaN is not.
        if self.control.at_min_step == "accept":
            accept |= tf.math.is_finite(ratio) & self.control.is_smallest(tf.abs(h))
        return accept

    def output(self, now: Progress, trial: Trial, arrays: list) -> tuple[tf.Tensor, list]:
        if self.solve.final_only:
            return now.reached, arrays
        times, dense = self.solve.times, self.solve.tableau.dense
        count = tf.shape(times)[0]
        direction = tf.sign(self.span)

        def passed(i: tf.Tensor, arrays: list) -> tf.Tensor:
            del arrays
            time = tf.gather(times, tf.minimum(i, count - 1))
            return trial.accept & (i < count) & ((trial.t - time) * direction >= 0.0)

        def write(i: tf.Tensor, arrays: list) -> tuple[tf.Tensor, list]:
            y = trial.y
            if dense is not None:
                theta = (self.requested(i) - now.t) / trial.h
                y = add(now.y, increment(dense_weights(dense, theta), trial.h, trial.ks))
            return i + 1, [array.write(i, x) for array, x in zip(arrays, y)]

        return tf.while_loop(
            passed,
            write,
            (now.reached, arrays),
            maximum_iterations=times.shape[0],
            parallel_iterations=1,
        )

    def advance(self, now: Progress, trial: Trial, reached: tf.Tensor) -> Progress:
        ratio, accept, dtype = trial.ratio, trial.accept, trial.h.dtype
        factor = step_control.factor(ratio, now.ratio, accept, self.solve.tableau.order)
        size = tf.abs(trial.h) * factor
        # A step that was cut to land says nothing against the size it was cut from.
        size = tf.where(accept & trial.lands, tf.maximum(size, now.h), size)
        resolution = 8.0 * step_control.epsilon(dtype) * tf.maximum(tf.abs(now.t), tf.abs(trial.t))
        nothing = tf.where(tf.math.is_finite(ratio), tf.zeros_like(size), math.nan)
        too_small = (size <= resolution) | self.control.is_smallest(tf.abs(trial.h))
        size = tf.where(~accept & too_small, nothing, self.control.bounded(size))
        control = tf.stop_gradient(tf.stack([size, tf.where(accept, ratio, now.ratio)]))
        step = tf.cast(accept, tf.int32)

        def choose(new: Any, old: Any) -> Any:
            return tf.nest.map_structure(lambda a, b: where(accept, a, b), new, old)

        return Progress(
            y=choose(trial.y, now.y),
            q=choose(trial.q, now.q),
            derivative=choose(trial.last, now.derivative),
            clock=tf.concat([tf.where(accept, trial.t, now.t)[tf.newaxis], control], 0),
            counts=tf.stack([now.accepted + step, now.rejected + 1 - step, reached]),
        )

    def stops_reached(self, now: Progress) -> tf.Tensor:
        """Return on how many stops a step has landed."""
        times, stops = self.solve.times, self.solve.stops
        landed = tf.not_equal(times[..., 1:], times[..., :-1])  # Several may be the same.
        if self.solve.tableau.dense is not None:
            targets = tf.gather(times, stops, batch_dims=times.shape.rank - 1)
            landed &= tf.equal(targets, times)[..., 1:]
        landed &= tf.range(1, tf.shape(times)[-1]) < now.reached[..., tf.newaxis]
        return tf.math.count_nonzero(landed, -1, dtype=tf.int32)

    def finish(self, now: Progress, caller: Caller) -> End:
        tableau, tried = self.solve.tableau, now.accepted + now.rejected
        evaluations = self.evaluations + tried * (tableau.stages - 1)
        if not tableau.first_same_as_last:
            # The derivative at the new state is evaluated after accepted steps only.
            evaluations += now.accepted
        if self.solve.stops is not None:
            evaluations += self.stops_reached(now)
        size = tf.where(tf.math.is_nan(now.h), tf.zeros_like(now.h), now.h)
        facts = ["time reached =", caller.time(now.t), "accepted steps =", now.accepted]
        facts += ["rejected steps =", now.rejected, "last step size =", size]
        start = tf.equal(now.accepted, 0)
        start &= ~finite([*now.y, *now.derivative[0]], samples=now.t.shape.rank == 1)
        not_finite = ~start & tf.math.is_nan(now.h)
        too_small = ~start & tf.equal(now.h, 0.0)
        beyond = "the state or its derivative is not finite beyond the time reached"
        return End(
            tf.not_equal(now.t, self.last()),
            [
                (f"`y0` or its derivative is not finite already. {_LOOK}", start),
                (f"{beyond}. {_TRY}", not_finite),
                (f"{self.shortest}. {_TRY}", too_small),
                (f"the budget of steps is spent. {_TRY}", ~(start | not_finite | too_small)),
            ],
            facts,
            Stats(evaluations, now.accepted, now.rejected),
            size,
            # Where no step was accepted, the states do not depend on the field: this does.
            now.derivative[0],
        )


class RepeatedPace(ErrorPace):
    """The steps of an earlier solve of the same problem, taken again and all accepted."""

    def __init__(self, control: "ErrorControl", solve: Solve, steps: Trajectory):
        super().__init__(control, solve._replace(first_step=tf.abs(steps.record.h[0])))
        self.steps = steps

    def unfinished(self, leg: None, now: Progress) -> tf.Tensor:
        return now.accepted < self.steps.stats.num_steps

    def try_step(self, leg: None, now: Progress) -> Trial:
        h = tf.abs(tf.gather(self.steps.record.h, now.accepted))
        return super().try_step(leg, now.with_step(h))

    def accepts(self, ratio: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return tf.constant(True)

    def finish(self, now: Progress, caller: Caller) -> End:
        return super().finish(now, caller).after(self.steps.stats)


def where(condition: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return `tf.where`, by sample or not, with the static shape of `b`, as loops demand."""
    result = tf.where(expand(condition, b), a, b)
    result.set_shape(b.shape)
    return result
