"""`odeint_event`: a solve up to the time at which something happens."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record

from tfnode import gradients, sample_events, solvers
from tfnode.field.calls import converted
from tfnode.gradients.tapes import inner, recorded
from tfnode.integrate import solve
from tfnode.problem import Problem
from tfnode.solvers import step_control
from tfnode.solvers.controller import Solve
from tfnode.solvers.failure import checked
from tfnode.solvers.foreign import drivable
from tfnode.solvers.stages import add, increment, stages

ITERATIONS = 60


def odeint_event(
    func: Callable,
    y0: Any,
    t0: Any,
    event_fn: Callable,
    *,
    reverse_time: bool = False,
    independent: bool = False,
    t1: Any = None,
    direction: int = 0,
    solver: Any = "dopri5",
    gradient: Any = None,
) -> Any:
    """Solve `dy/dt = func(t, y)`, `y(t0) = y0` up to the first zero of an event function.

    The event is the first change of sign of any element of `event_fn(t, y)`, looked for at
    the end of every step and then within it: two changes within one step go unnoticed. An
    element that is zero at `t0` takes its sign from the end of the first step, so that a
    solve may begin where the last event ended.

    The event's time is differentiable: with the event function `g` and the trajectory `y`,
    the implicit function theorem gives `dt = -dg / (g_t + g_y . f)`, and the state there
    moves with it.

    Args:
        func, y0: As in `tfnode.odeint`. The whole state, batch included, has one event, if the
            samples are not `independent`.
        t0: Scalar, the time of `y0`; where the samples are independent, also one for each. Give a
            tensor where its gradient is wanted.
        event_fn: `event_fn(t, y)`, a float tensor of any shape; where the samples are independent
            `(batch,)`, or `(batch, k)` for `k` events. Differentiable in what it closes over, too.
        reverse_time: Whether time runs backward from `t0`.
        independent: Whether every sample has its own event, and its own clock as in
            `tfnode.odeint`. The next two arguments go with it alone.
        t1: The last time at which an event is looked for, like `t0`, whatever `reverse_time`;
            `None` to look until the `max_steps` of the solver are spent.
        direction: Which changes of sign count: 1 those to positive values, -1 those to negative
            ones, 0 both.
        solver: An adaptive Runge-Kutta method: a name, config or instance.
        gradient: As in `tfnode.odeint`.

    Returns:
        `(event_time, states)`: a scalar; and `y0` and the state at the event, stacked on a
        new leading axis as by `tfnode.odeint`. Where the samples are independent, a `SampleEvents`:
        the times `(batch,)`; the states; `happened`, whether there was an event up to `t1`, where
        there was none the time is `t1` and the state that at `t1`; and `which`, the index of the
        element of the event function that was zero, or -1.

    Raises:
        ValueError: If the solver is not an adaptive Runge-Kutta method, if the event function
            cannot be called or does not return floats, if arguments do not go together, and as
            `odeint`.
        tf.errors.InvalidArgumentError: If the solver fails or comes to the end of its
            `max_steps` before there is an event. Under XLA, which has no assertions, the
            time and the state are NaN. So they are with a solver of `on_failure="nan"`.

    Example: a ball that falls from a height of 10 m, and its first bounce.
    ```python
    def falling(t, y):  # Height and velocity.
        return tf.stack([y[1], -9.81])

    t, ys = tfnode.odeint_event(falling, tf.constant([10.0, 0.0]), 0.0, lambda t, y: y[0])
    ```

    Reference: Chen, Amos, Nickel, *Learning Neural Event Functions for Ordinary
    Differential Equations* (2021), section 3.
    """
    solver = solvers.get(solver)
    if not drivable(solver).adaptive:
        names = ", ".join(repr(name) for name in solvers.ADAPTIVE)
        raise ValueError(
            f"Events need an adaptive Runge-Kutta solver: one of {names}, without fixed steps. "
            f"Received: solver={solver}"
        )
    if not callable(event_fn):
        raise ValueError(
            f"`event_fn` must be a callable `event_fn(t, y)`. Received: event_fn={event_fn!r}"
        )
    gradient = gradients.get(gradient, solver)
    if direction not in (-1, 0, 1):
        raise ValueError(f"`direction` must be -1, 0 or 1. Received: direction={direction!r}")
    if independent:
        options = reverse_time, t1, direction, solver, gradient
        return sample_events.solve(converted(func), y0, t0, converted(event_fn), *options)
    if t1 is not None or direction:
        raise ValueError(
            "`t1` and `direction` need independent=True, which gives every sample its own event. "
            f"Received: t1={t1}, direction={direction}"
        )
    return _solve(converted(func), y0, t0, converted(event_fn), reverse_time, solver, gradient)


@tf.autograph.experimental.do_not_convert
def _solve(func, y0, t0, event_fn, reverse_time, solver, gradient):
    def first_time(dtype):
        start = tf.cast(t0, dtype) if tf.is_tensor(t0) else tf.constant(t0, dtype)
        if start.shape.rank not in (None, 0):
            raise ValueError(f"`t0` must be a scalar. Received: t0 of shape {start.shape}")
        return start[tf.newaxis]

    problem = Problem(func, y0, first_time)
    problem.refuse_random()
    start, dtype = first_time(problem.time_dtype)[0], problem.time_dtype

    def event(t, y):
        value = tf.convert_to_tensor(event_fn(t, problem.pack(y)))
        if not value.dtype.is_floating or value.shape.num_elements() == 0:
            raise ValueError(
                "`event_fn` must return floats, at least one, whose sign changes at the event. "
                f"Received: a result of dtype={value.dtype.name}, shape={value.shape}"
            )
        return tf.reshape(tf.cast(value, dtype), [-1])

    direction = tf.constant(-1.0 if reverse_time else 1.0, dtype)
    with record.stop_recording():
        elapsed, element = _locate(solver, problem, recorded(event), direction)
    field = problem.vector_field.bind(problem.vector_field.reads)
    elapsed = tf.stop_gradient(elapsed)
    # The first correction is right to the first derivative, the second to the third.
    for _ in range(2 if gradient.higher_order else 1):
        time = start + elapsed
        states, _, _ = solve(func, y0, tf.stack([start, time]), solver, gradient)
        y = [tf.cast(x[-1], d.dtype) for x, d in zip(tf.nest.flatten(states), problem.y0)]
        slope, _ = field(elapsed, y)
        change = _correction(event, time, y, slope, element)
        elapsed += change
    final = problem.pack([x + tf.cast(change, x.dtype) * dx for x, dx in zip(y, slope)])
    states = tf.nest.map_structure(lambda x, last: tf.stack([x[0], last]), states, final)
    return start + elapsed, states


def _correction(event, time, y, slope, element):
    """Return a zero with the gradient of the event's time.

    It is a step of Newton's method for `g(t, y(t)) = 0`, whose value is known to be zero.
    """
    with tf.GradientTape() as tape:
        tape.watch([time, *y])
        value = tf.gather(event(time, y), element)
    by_time, *by_y = tape.gradient(
        value, [time, *y], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    rate = by_time + inner(by_y, slope, time.dtype)
    return -(value - tf.stop_gradient(value)) / rate


def _locate(solver, problem, event_fn, direction):
    """Return the elapsed time of the event and the element of the event function that it is."""
    field = recorded(problem.vector_field.bind(problem.vector_field.reads))
    t0, tableau = problem.times[0], solver.tableau
    # Nobody knows the last time; it is only a direction.
    far = tf.stack([t0, direction * tf.constant(1e30, t0.dtype)])
    pace = solver.controller.pace(Solve(tableau, field, far, final_only=True))

    def event(t, y):
        return event_fn(problem.caller_time(t), y)

    def distances(signs, values):
        """Above zero until the event, for every element that has a sign yet."""
        return tf.where(signs == 0.0, tf.ones_like(values), signs * values)

    def smallest(signs, values):
        return tf.reduce_min(distances(signs, values))

    def unfinished(now, signs, h, found):
        del signs, h
        return ~found & now.may_go_on(pace.total)

    def body(now, signs, h, found):
        trial = pace.step_towards(now.t + direction * now.h, now, direction, field)
        values = event(trial.t, trial.y)
        found = trial.accept & (smallest(signs, values) <= 0.0)
        after = pace.advance(now, trial, now.reached)
        now = tf.nest.map_structure(lambda a, b: tf.where(found, a, b), now, after)
        unsigned = trial.accept & ~found & (signs == 0.0)
        return now, tf.where(unsigned, tf.sign(values), signs), trial.h, found

    now, signs, h, found = tf.while_loop(
        unfinished,
        body,
        (
            pace.start(problem.y0, []),
            tf.sign(event(t0, problem.y0)),
            tf.zeros([], t0.dtype),
            tf.constant(False),
        ),
        maximum_iterations=pace.total,
        parallel_iterations=1,
    )

    # The Illinois method, on steps of a fraction of the last one.
    def values_at(fraction):
        size = fraction * h
        ks, _ = stages(tableau.rows, field, now.t, now.y, size, first=now.derivative)
        return event(now.t + size, add(now.y, increment(tableau.b, size, ks)))

    one = tf.ones([], t0.dtype)
    resolution = 4.0 * step_control.epsilon(t0.dtype)

    def wide(i, a, fa, b, fb, side):
        del fa, side
        scale = tf.maximum(tf.abs(now.t), tf.abs(h))
        return found & (i < ITERATIONS) & (fb < 0.0) & ((b - a) * tf.abs(h) > resolution * scale)

    def narrow(i, a, fa, b, fb, side):
        c = (a * fb - b * fa) / (fb - fa)
        # Where rounding leaves nothing between, halve.
        c = tf.where((c > a) & (c < b), c, 0.5 * (a + b))
        fc = smallest(signs, values_at(c))
        right = fc <= 0.0
        new = tf.where(right, 1, -1)
        # An end that stays a second time counts half, or it might stay for ever.
        weight = tf.where(tf.equal(new, side), tf.constant(0.5, c.dtype), one)
        return (
            i + 1,
            tf.where(right, a, c),
            tf.where(right, weight * fa, fc),
            tf.where(right, c, b),
            tf.where(right, fc, weight * fb),
            new,
        )

    _, _, _, fraction, _, _ = tf.while_loop(
        wide,
        narrow,
        (
            tf.zeros([], tf.int32),
            tf.zeros([], t0.dtype),
            smallest(signs, event(now.t, now.y)),
            one,
            smallest(signs, values_at(one)),
            tf.zeros([], tf.int32),
        ),
        maximum_iterations=ITERATIONS,
        parallel_iterations=1,
    )
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
