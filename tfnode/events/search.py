"""The search for the event of a whole state."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfnode.events.crossing import crossing, too_near
from tfnode.gradients.tapes import recorded
from tfnode.problem import Problem
from tfnode.solvers.controller import Solve
from tfnode.solvers.failure import checked
from tfnode.solvers.stages import add, increment, stages


def locate(
    solver: Any, problem: Problem, event_fn: Callable, direction: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the elapsed time of the event and the element of the event function that it is."""
    field = recorded(problem.vector_field.bind(problem.vector_field.reads))
    t0, tableau = problem.times[0], solver.tableau
    # Nobody knows the last time; it is only a direction.
    far = tf.stack([t0, direction * tf.constant(1e30, t0.dtype)])
    pace = solver.controller.pace(Solve(tableau, field, far, final_only=True))

    def event(t: tf.Tensor, y: list) -> tf.Tensor:
        return event_fn(problem.caller_time(t), y)

    def distances(signs: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Above zero until the event, for every element that has a sign yet."""
        return tf.where(signs == 0.0, tf.ones_like(values), signs * values)

    def smallest(signs: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_min(distances(signs, values))

    def unfinished(now: Any, signs: Any, h: Any, found: tf.Tensor) -> tf.Tensor:
        del signs, h
        return ~found & now.may_go_on(pace.total)

    def body(now: Any, signs: tf.Tensor, h: tf.Tensor, found: tf.Tensor) -> tuple:
        trial = pace.step_towards(now.t + direction * now.h, now, direction, field)
        values = event(trial.t, trial.y)
        again = too_near(first, values, problem.origin, trial.h) & (now.accepted == 0)
        signs = tf.where(again, tf.zeros_like(signs), signs)
        found = trial.accept & (smallest(signs, values) <= 0.0)
        after = pace.advance(now, trial, now.reached)
        now = tf.nest.map_structure(lambda a, b: tf.where(found, a, b), now, after)
        unsigned = trial.accept & ~found & (signs == 0.0)
        return now, tf.where(unsigned, tf.sign(values), signs), trial.h, found

    first = event(t0, problem.y0)
    now, signs, h, found = tf.while_loop(
        unfinished,
        body,
        (
            pace.start(problem.y0, []),
            tf.sign(first),
            tf.zeros([], t0.dtype),
            tf.constant(False),
        ),
        maximum_iterations=pace.total,
        parallel_iterations=1,
    )

    def values_at(fraction: tf.Tensor) -> tf.Tensor:
        size = fraction * h
        ks, _ = stages(tableau.rows, field, now.t, now.y, size, first=now.derivative)
        return event(now.t + size, add(now.y, increment(tableau.b, size, ks)))

    fraction = crossing(lambda x: smallest(signs, values_at(x)), found, now.t, h)
    element = tf.argmin(distances(signs, values_at(fraction)))
    time = now.t + fraction * h
    time = checked(
        time,
        ~found,
        "No event: the event function kept its sign, or was NaN, until the solver failed or had "
        "spent its `max_steps`. Check the event function and `reverse_time`, or give the solver a "
        "larger `max_steps`.",
        "time reached =",
        problem.caller_time(now.t),
        "last step size =",
        now.h,
    )
    return time, element
