"""`odeint_event`: a solve up to the time at which something happens."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record

from tfnode import gradients, solvers
from tfnode.events import samples
from tfnode.events.crossing import correction
from tfnode.events.search import locate
from tfnode.gradients.tapes import recorded
from tfnode.integrate import solve
from tfnode.problem import Problem
from tfnode.problem.field.calls import converted
from tfnode.solvers.foreign import drivable


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
    **options: Any,
) -> Any:
    """Solve `dy/dt = func(t, y)`, `y(t0) = y0` up to the first zero of an event function.

    The event is the first change of sign of any element of `event_fn(t, y)`, looked for at
    the end of every step and then within it: two changes within one step go unnoticed. An
    element that is zero at `t0`, but for rounding, takes its sign from the end of the first step,
    so that a solve may begin where the last event ended.

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
        gradient, **options: As in `tfnode.odeint`.

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
    solver = solvers.get(solver, **options)
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
        search = reverse_time, t1, direction, solver, gradient
        return samples.solve(converted(func), y0, t0, converted(event_fn), *search)
    if t1 is not None or direction:
        raise ValueError(
            "`t1` and `direction` need independent=True, which gives every sample its own event. "
            f"Received: t1={t1}, direction={direction}"
        )
    return _solve(converted(func), y0, t0, converted(event_fn), reverse_time, solver, gradient)


@tf.autograph.experimental.do_not_convert
def _solve(
    func: Any,
    y0: Any,
    t0: Any,
    event_fn: Any,
    reverse_time: bool,
    solver: Any,
    gradient: gradients.Gradient,
) -> tuple[tf.Tensor, Any]:
    def first_time(dtype: tf.DType) -> tf.Tensor:
        start = tf.cast(t0, dtype) if tf.is_tensor(t0) else tf.constant(t0, dtype)
        if start.shape.rank not in (None, 0):
            raise ValueError(f"`t0` must be a scalar. Received: t0 of shape {start.shape}")
        return start[tf.newaxis]

    problem = Problem(func, y0, first_time)
    problem.refuse_random()
    start, dtype = first_time(problem.time_dtype)[0], problem.time_dtype

    def event(t: tf.Tensor, y: list) -> tf.Tensor:
        value = tf.convert_to_tensor(event_fn(t, problem.pack(y)))
        if not value.dtype.is_floating or value.shape.num_elements() == 0:
            raise ValueError(
                "`event_fn` must return floats, at least one, whose sign changes at the event. "
                f"Received: a result of dtype={value.dtype.name}, shape={value.shape}"
            )
        return tf.reshape(tf.cast(value, dtype), [-1])

    direction = tf.constant(-1.0 if reverse_time else 1.0, dtype)
    with record.stop_recording():
        elapsed, element = locate(solver, problem, recorded(event), direction)

    def watched(t: tf.Tensor, y: list) -> tf.Tensor:
        return tf.gather(event(t, y), element)

    field = problem.vector_field.bind(problem.vector_field.reads)
    elapsed = tf.stop_gradient(elapsed)
    # The first correction is right to the first derivative, the second to the third.
    for _ in range(2 if gradient.higher_order else 1):
        time = start + elapsed
        states, _, _ = solve(func, y0, tf.stack([start, time]), solver, gradient)
        y = [tf.cast(x[-1], d.dtype) for x, d in zip(tf.nest.flatten(states), problem.y0)]
        slope, _ = field(elapsed, y)
        change = correction(watched, time, elapsed, y, slope)
        elapsed += change
    final = problem.pack([x + tf.cast(change, x.dtype) * dx for x, dx in zip(y, slope)])
    states = tf.nest.map_structure(lambda x, last: tf.stack([x[0], last]), states, final)
    return start + elapsed, states
