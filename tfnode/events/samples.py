"""The events of independent samples, each at its own time."""

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.eager import record

from tfnode.events.crossing import correction
from tfnode.events.sample_search import SampleSearch
from tfnode.gradients.tapes import recorded
from tfnode.integrate import solve as solve_to_times
from tfnode.problem import Problem
from tfnode.solvers.failure import asserted, compiled_by_xla, nan_samples
from tfnode.solvers.stages import expand


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
        size = tf.get_static_value(batch)
        if value.shape.rank == 1 and size is not None and value.shape[0] not in (None, 1, size[0]):
            raise ValueError(
                f"`{name}` must be a scalar, or have one time for each sample. "
                f"Received: {name} of shape {value.shape} for {size[0]} samples"
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
    dtype, batch_shape = problem.time_dtype, problem.times.shape[:1]
    start = clock("t0", t0, dtype)

    def event(t: tf.Tensor, y: list) -> tf.Tensor:
        value = tf.convert_to_tensor(event_fn(t, problem.pack(y)))
        like = value.shape.rank in (1, 2) and value.shape[:1].is_compatible_with(batch_shape)
        if not (value.dtype.is_floating and like and value.shape[1:].num_elements() != 0):
            raise ValueError(
                "`event_fn` must return floats of shape (batch,) or (batch, k), whose signs change "
                "at the event. "
                f"Received: a result of dtype={value.dtype.name}, shape={value.shape}"
            )
        value = tf.cast(value, dtype)
        return value if value.shape.rank == 2 else value[:, tf.newaxis]

    with record.stop_recording():
        search = SampleSearch(solver, problem, recorded(event), direction)
        elapsed, happened, which, failed = search.run()
        if t1 is not None:
            # Another solve fails where this one did, and says so.
            failed = tf.zeros_like(failed)
        elif solver.on_failure == "raise" and not compiled_by_xla():
            elapsed = _checked(elapsed, failed, start)

    def watched(t: tf.Tensor, y: list) -> tf.Tensor:
        return tf.gather(event(t, y), tf.maximum(which, 0), batch_dims=1)

    field = problem.vector_field.bind(problem.vector_field.reads)
    elapsed = tf.stop_gradient(elapsed)
    if t1 is not None:
        # The last time has a gradient.
        elapsed = tf.where(happened, elapsed, clock("t1", t1, dtype) - start)
    for _ in range(2 if gradient.higher_order else 1):
        time = start + elapsed
        times = tf.stack([start, time], 1)
        states, _, _ = solve_to_times(func, y0, times, solver, gradient, independent=True)
        y = [tf.cast(x[-1], d.dtype) for x, d in zip(tf.nest.flatten(states), problem.y0)]
        slope, _ = field(elapsed, y)
        change = correction(watched, time, elapsed, y, slope, happened)
        elapsed += change
    final = [x + expand(tf.cast(change, x.dtype), x) * dx for x, dx in zip(y, slope)]
    final = problem.pack([nan_samples(failed, x) for x in final])
    states = tf.nest.map_structure(lambda x, last: tf.stack([x[0], last]), states, final)
    return SampleEvents(nan_samples(failed, start + elapsed), states, happened, which)


def _checked(elapsed: tf.Tensor, failed: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    here = tf.where(failed)[:, 0]
    check = asserted(
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
    with tf.control_dependencies(check):
        return tf.identity(elapsed)
