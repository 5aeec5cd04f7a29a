"""The exact gradient of the discrete solution, recomputed step by step."""

from typing import Any

import keras
import tensorflow as tf

from tfnode import checks
from tfnode.gradients import custom
from tfnode.gradients.base import BackwardStats, Gradient, Request
from tfnode.gradients.parts import Part, spoiled, without_failed, without_their_steps
from tfnode.gradients.reverse_step import ReverseStep
from tfnode.gradients.tapes import recorded
from tfnode.gradients.windows import Windows
from tfnode.problem import Problem
from tfnode.problem.field.sources import value_of
from tfnode.solvers.failure import nan_where
from tfnode.solvers.foreign import drivable
from tfnode.solvers.stages import add


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

    def __init__(self, max_states: int = 128):
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
        return custom.solve(self, problem, request, _backward, self.max_states)


def _backward(solved: custom.Solved, cotangents: list) -> tuple:
    """Return the gradients in `y0`, the sources and the times, and the stats."""
    request, times, trajectory = solved.request, solved.times, solved.trajectory
    solver, final_only = request.solver, request.final_only
    tableau, steps = solver.tableau, trajectory.number
    samples = times.shape.rank == 2
    if samples:
        cotangents, lost = without_failed(solved, cotangents)
        solved = without_their_steps(solved)
        trajectory = solved.trajectory
        steps = tf.where(tf.reduce_all(trajectory.failed), 0, steps)
    record = trajectory.record
    dense = None if final_only else solver.dense
    stage_rows = tableau.solution_rows if dense is None else tableau.dense_rows
    # Nothing depends on a quadrature, so the gradient in it is the same in all steps.
    cotangents, q_bar = cotangents[: len(solved.y0)], cotangents[len(solved.y0) :]
    windows = Windows(solved)

    def body(n, y_bar, g, rates, window):
        y, window = windows.state(n, window)
        part = Part(solved, n)
        t, h, end = part.clock()
        step = recorded(ReverseStep)(
            solved.field, request.time_gradient, stage_rows, t, h, end, part.take(y), part.rows
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
            times, record, steps, by_t.stack(), by_h.stack(), lands, solved.stops
        )
    taken = steps
    if samples:
        n = tf.range(tf.shape(record.h)[0])[:, tf.newaxis]
        taken = tf.math.count_nonzero((n < steps) & tf.not_equal(record.h, 0.0), dtype=tf.int32)
    evaluations = taken * len(stage_rows) + windows.recomputed() * len(tableau.solution_rows)
    stats = BackwardStats(evaluations, taken, 0 * steps, tf.zeros([]))
    if samples:
        return *spoiled(lost, y_bar, g, times_bar), stats
    # The steps up to where a solve failed have gradients, which are of no use.
    y_bar, g, times_bar = tf.nest.map_structure(
        lambda x: nan_where(trajectory.failed, x), (y_bar, g, times_bar)
    )
    return y_bar, g, times_bar, stats
