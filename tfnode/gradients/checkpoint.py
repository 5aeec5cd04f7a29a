"""The exact gradient of the discrete solution, recomputed step by step."""

import functools
import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfnode import checks
from tfnode.field_sources import value_of
from tfnode.gradients import custom
from tfnode.gradients.base import BackwardStats, Gradient, Request
from tfnode.gradients.reverse_step import Outputs, ReverseStep, SampleOutputs
from tfnode.gradients.tapes import recorded
from tfnode.problem import Problem
from tfnode.solvers.failure import nan_where
from tfnode.solvers.foreign import drivable
from tfnode.solvers.rows import chosen, put, take
from tfnode.solvers.stages import add, expand, increment, stages


@keras.saving.register_keras_serializable("tfnode")
class Checkpoint(Gradient):
    """Backpropagation through the accepted steps, each computed again from a stored state.

    With `y' = y + h sum_i b_i k_i`, `k_i = f(t + c_i h, z_i)`, `z_i = y + h sum_j a_ij k_j`,
    the cotangents run from the last stage to the first, and from the last step to the first:

    ```
    k_i_bar = h b_i y'_bar + h sum_(j > i) a_ji z_j_bar
    z_i_bar = k_i_bar^T df/dy (z_i)      theta_bar += k_i_bar^T df/dtheta (z_i)
    y_bar   = y'_bar + sum_i z_i_bar
    ```

    Memory: the activations of one step, and at most `max_states` states. A solve of more
    steps keeps the state of every second step, or fourth, ...; those between are computed a
    second time, when their turn comes, and kept beside. Exact: to rounding, for fixed and
    adaptive steps; the sizes that an adaptive solver chose count as constants. Rejected
    steps cost nothing here. Higher derivatives: no; use 'backprop'. When not to use: with
    TFP's solvers, which do not tell their steps.

    Args:
        max_states: The most states to keep, an even int of at least 2.

    Raises:
        ValueError: If `max_states` is out of range; where it is used with a solver that is
            none of `tfnode.solvers`' Runge-Kutta methods.

    Reference: Hairer, Lubich, Wanner, *Geometric Numerical Integration* (2006), section
    VI.6, for the adjoint of a Runge-Kutta method; Griewank, Walther, *Evaluating
    Derivatives* (2008), chapter 12, for checkpoints.
    """

    def __init__(self, max_states=128):
        wanted = "an even int of at least 2: the most states that are kept"
        self.max_states = checks.integer("max_states", max_states, 2, wanted)
        if self.max_states % 2:
            raise ValueError(f"`max_states` must be {wanted}. Received: max_states={max_states!r}")

    def get_config(self):
        return {"max_states": self.max_states}

    def check(self, solver):
        if not drivable(solver).tells_steps:
            raise ValueError(
                "The gradient 'checkpoint' needs a Runge-Kutta solver of `tfnode.solvers`, since "
                f"others do not tell their steps. Use 'adjoint' instead. Received: solver={solver}"
            )

    def solve(self, problem: Problem, request: Request) -> tuple[list, Any]:
        return custom.solve(self.name, problem, request, _backward, self.max_states)


def _backward(solved: custom.Solved, cotangents: list) -> tuple:
    """Return the gradients in `y0`, the sources and the times, and the stats."""
    request, times, trajectory = solved.request, solved.times, solved.trajectory
    solver, final_only = request.solver, request.final_only
    tableau, steps = solver.tableau, trajectory.number
    samples = times.shape.rank == 2
    if samples:
        solved, cotangents, lost = _without_failed(solved, cotangents)
        trajectory = solved.trajectory
        steps = tf.where(tf.reduce_all(trajectory.failed), 0, steps)
    record = trajectory.record
    dense = None if final_only else solver.dense
    rows = tableau.solution_rows if dense is None else tableau.dense_rows
    # Nothing depends on a quadrature, so the gradient in it is the same in all steps.
    cotangents, q_bar = cotangents[: len(solved.y0)], cotangents[len(solved.y0) :]
    windows = _Windows(solved)

    def body(n, y_bar, g, rates, window):
        y, window = windows.state(n, window)
        part = _Part(solved, n)
        t, h, end = part.clock()
        step = recorded(ReverseStep)(
            solved.field, request.time_gradient, rows, t, h, end, part.take(y), part.rows
        )
        y_whole, y_bar = y_bar, part.take_own(y_bar)
        outputs = None if final_only else part.outputs(cotangents, t, h)
        if dense is None and outputs is not None:
            # The solution lands on the times that are asked for.
            y_bar = add(y_bar, outputs.moments(0)[0])
        moments = outputs.moments(len(dense[0])) if dense is not None else None
        y_bar, g_step, t_bar, h_bar = step.backward(y_bar, q_bar, tableau.b, dense, moments)
        if request.time_gradient:
            by_t, by_h, by_times = rates
            if dense is not None:
                by_times, total, weighted = outputs.rates(dense, step.ks, by_times)
                t_bar, h_bar = t_bar - total, h_bar - weighted
            t_bar, h_bar = part.whole(t_bar, record.t[0]), part.whole(h_bar, record.t[0])
            rates = by_t.write(n, t_bar), by_h.write(n, h_bar), by_times
        return n - 1, part.update(y_whole, y_bar), [a + b for a, b in zip(g, g_step)], rates, window

    rates = ()
    if request.time_gradient:
        size = tf.shape(record.t)[0]
        shape = times.shape[:-1]
        by_step = [tf.TensorArray(times.dtype, size, element_shape=shape) for _ in range(2)]
        if samples:  # Where there are no steps, the arrays would have no shape.
            by_step = [a.write(0, tf.zeros_like(times[:, 0])) for a in by_step]
        rates = (*by_step, tf.zeros_like(times))
    _, y_bar, g, rates, _ = tf.while_loop(
        lambda n, *_: n >= 0,
        body,
        (
            steps - 1,
            list(cotangents) if final_only else [tf.zeros_like(y) for y in solved.y0],
            [tf.zeros_like(value_of(s)) for s in solved.field.sources],
            rates,
            windows.start(),
        ),
        parallel_iterations=1,
    )
    if not final_only:
        y_bar = [a + c[0] for a, c in zip(y_bar, cotangents)]
    times_bar = tf.zeros_like(times)
    if request.time_gradient:
        by_t, by_h, times_bar = rates
        lands = dense is None and not final_only
        times_bar += solver.controller.times_gradient(
            times, record, steps, by_t.stack(), by_h.stack(), lands
        )
    taken = steps
    if samples:
        n = tf.range(tf.shape(record.h)[0])[:, tf.newaxis]
        taken = tf.math.count_nonzero((n < steps) & tf.not_equal(record.h, 0.0), dtype=tf.int32)
    evaluations = taken * len(rows) + windows.recomputed() * len(tableau.solution_rows)
    stats = BackwardStats(evaluations, taken, 0 * steps, tf.zeros([]))
    if samples:
        return *lost.spoil(y_bar, g, times_bar), stats
    # The steps up to where a solve failed have gradients, which are of no use.
    y_bar, g, times_bar = tf.nest.map_structure(
        lambda x: nan_where(trajectory.failed, x), (y_bar, g, times_bar)
    )
    return y_bar, g, times_bar, stats


def _step_end(solved: custom.Solved, n: tf.Tensor) -> tf.Tensor:
    """Return the time at the end of step `n`: that from which the next one begins."""
    record, steps = solved.trajectory.record, solved.trajectory.number
    following = tf.gather(record.t, tf.minimum(n + 1, steps - 1))
    return tf.where(n + 1 < steps, following, solved.times[..., -1])


class _Part:
    """The samples that take step `n`: those alone, where the others may be left out."""

    def __init__(self, solved: custom.Solved, n: tf.Tensor):
        self.solved, self.n, self.rows = solved, n, None
        if solved.times.shape.rank == 2:
            trajectory = solved.trajectory
            active = tf.not_equal(tf.gather(trajectory.record.h, n), 0.0)
            # Not every layer takes a batch of nothing.
            donor = tf.argmax(tf.cast(~trajectory.failed, tf.int32), output_type=tf.int32)
            idle = ~tf.reduce_any(active)
            active |= idle & tf.equal(tf.range(tf.size(active)), donor)
            self.rows = chosen(active, solved.drop, trajectory.failed)

    def clock(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the time at which the step begins, its size, and the time at its end."""
        record = self.solved.trajectory.record
        clock = tf.gather(record.t, self.n), tf.gather(record.h, self.n)
        t, h, end = *clock, _step_end(self.solved, self.n)
        if self.rows is None:
            return t, h, end
        end = tf.where(tf.equal(h, 0.0), t, end)
        return take(t, self.rows), tf.gather(h, self.rows.own), take(end, self.rows)

    def outputs(self, cotangents: list, t: tf.Tensor, h: tf.Tensor) -> Outputs:
        """Return the requested times in the step."""
        reached, n = self.solved.trajectory.record.reached, self.n
        ends = tf.gather(reached, n)
        begins = tf.where(n > 0, tf.gather(reached, tf.maximum(n - 1, 0)), 1)
        if self.rows is None:
            return Outputs(self.solved.times, cotangents, begins, ends, t, h)
        begins, ends = (tf.gather(x, self.rows.own) for x in (begins, ends))
        return SampleOutputs(self.solved.times, cotangents, begins, ends, t, h, self.rows.own)

    def take(self, y: list) -> list:
        """Return the states in which the field is evaluated."""
        return [take(x, self.rows) for x in y]

    def take_own(self, y_bar: list) -> list:
        """Return the gradients of the samples that take the step."""
        return y_bar if self.rows is None else [tf.gather(x, self.rows.own) for x in y_bar]

    def whole(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Return numbers of these samples as numbers of all."""
        return put(x, self.rows, like)

    def update(self, whole: list, part: list) -> list:
        """Return tensors of the batch with new values for these samples."""
        if self.rows is None:
            return part
        place = self.rows.own[:, tf.newaxis]
        return [
            tf.ensure_shape(tf.tensor_scatter_nd_update(x, place, z), x.shape)
            for x, z in zip(whole, part)
        ]


class _Lost(NamedTuple):
    """The samples whose gradient is NaN, `(batch,)`."""

    samples: tf.Tensor

    def spoil(self, y_bar: list, g: list, times_bar: tf.Tensor) -> tuple:
        """Return the gradients with NaN where it belongs."""
        *y_bar, times_bar = (
            tf.where(expand(self.samples, x), tf.constant(math.nan, x.dtype), x)
            for x in (*y_bar, times_bar)
        )
        return y_bar, [nan_where(tf.reduce_any(self.samples), x) for x in g], times_bar


def _without_failed(solved: custom.Solved, cotangents: list) -> tuple:
    """Return the solve, in which samples that failed take no steps, and what is lost.

    The gradient that arrives at such a sample is 0 where the loss leaves it out. All others
    are as if it were not there.
    """
    trajectory = solved.trajectory
    failed, axis = trajectory.failed, 0 if solved.request.final_only else 1
    lost = tf.zeros_like(failed)
    for c in cotangents:
        others = [i for i in range(c.shape.rank) if i != axis]
        lost |= failed & tf.reduce_any(tf.not_equal(c, 0.0), others)
    record = trajectory.record
    record = record._replace(h=tf.where(failed, tf.zeros_like(record.h), record.h))
    shape = [1] * axis + [-1]
    cotangents = [
        tf.where(tf.reshape(failed, shape + [1] * (c.shape.rank - axis - 1)), tf.zeros_like(c), c)
        for c in cotangents
    ]
    return solved._replace(trajectory=trajectory._replace(record=record)), cotangents, _Lost(lost)


class _Windows:
    """The states of the steps: stored ones, and those between computed again.

    The states of one stride, which the loop over the steps carries, are filled in at its
    last step, the first to be asked for.
    """

    def __init__(self, solved: custom.Solved):
        self.solved = solved
        self.record, self.steps = solved.trajectory.record, solved.trajectory.number
        self.all_stored = isinstance(self.record.window, int) and self.record.window == 1

    def start(self) -> list:
        """Return the empty window with which the loop begins."""
        if self.all_stored:
            return []
        arrays = [
            tf.TensorArray(
                y.dtype, self.record.window, element_shape=y.shape, clear_after_read=False
            )
            for y in self.solved.y0
        ]
        return [a.write(0, y) for a, y in zip(arrays, self.solved.y0)]

    def state(self, n: tf.Tensor, window: list) -> tuple[list, list]:
        """Return the state from which step `n` began, and the window."""
        record, tableau = self.record, self.solved.request.solver.tableau
        first = n - n % record.stride
        owned = tf.cast(tf.equal(record.owners, first), tf.int32)
        slot = 1 + tf.argmax(owned, output_type=tf.int32)
        stored = [tf.gather(x, slot) for x in record.states]
        if self.all_stored:
            return stored, window
        refill = tf.equal(n, self.steps - 1) | tf.equal((n + 1) % record.stride, 0)

        def forward(m, y, window):
            part = _Part(self.solved, m)
            t, h, end = part.clock()
            field = recorded(self.solved.field)
            if part.rows is not None:
                field = functools.partial(field, rows=part.rows)
            ks, _ = stages(tableau.solution_rows, field, t, part.take(y), h, end=end)
            y = part.update(y, add(part.take_own(y), increment(tableau.b, h, ks)))
            return m + 1, y, [a.write(m + 1 - first, x) for a, x in zip(window, y)]

        window = tf.cond(
            refill, lambda: [a.write(0, x) for a, x in zip(window, stored)], lambda: window
        )
        _, _, window = tf.while_loop(
            lambda m, *_: refill & (m < n),
            forward,
            (first, stored, window),
            parallel_iterations=1,
        )
        return [a.read(n - first) for a in window], window

    def recomputed(self) -> tf.Tensor:
        """Return how many steps are computed again beside those of the backward pass."""
        if self.all_stored:
            return tf.zeros([], tf.int32)
        if self.solved.times.shape.rank == 2:
            n = tf.range(tf.shape(self.record.h)[0])
            again = (n < self.steps - 1) & tf.not_equal((n + 1) % self.record.stride, 0)
            taken = again[:, tf.newaxis] & tf.not_equal(self.record.h, 0.0)
            return tf.math.count_nonzero(taken, dtype=tf.int32)
        return self.steps + -self.steps // self.record.stride
