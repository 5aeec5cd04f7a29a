"""The continuous adjoint: gradients by a second solve, backward in time."""

import math

import keras
import tensorflow as tf

from tfnode import solvers
from tfnode.gradients.problem import (
    BackwardStats,
    Gradient,
    Problem,
    cut,
    find_sources,
    inner,
    read,
    recorded,
    unrecorded,
    vjp,
)
from tfnode.solvers.foreign import drivable
from tfnode.solvers.trajectory import finite


@keras.saving.register_keras_serializable("tfnode")
class Adjoint(Gradient):
    """The adjoint sensitivity method.

    With `a = dL/dy`, the state, its adjoint and the gradient in the parameters follow

    ```
    dy/dt = f(t, y)      da/dt = -a^T df/dy      dg/dt = -a^T df/dtheta
    ```

    from the last time back to the first. At every requested time the state starts again
    from the stored one and `a` jumps by the gradient that arrives there. The parameters
    are quadratures: nothing depends on `g`, so it costs no stage values and has no part in
    the error that an adaptive solver controls (the seminorm of Kidger, Chen and Lyons).
    From one requested time to the next the solver goes on with the size of its steps.

    Memory: constant in the number of steps, inside `tf.function` and so in `fit`; in eager
    execution the tape outside keeps what the forward solve computes. Exact: only up to the
    error of the solver, which falls with the step; with few steps it is the gradient of the
    differential equation rather than of the discrete solution. Higher derivatives: no.
    When not to use: where the dynamics contract strongly, since the backward solve then
    cannot reconstruct the state, and the gradient is wrong (`tfnode.callbacks.SolverStats`
    shows by how much it misses); with many requested times, each of which begins a solve of
    its own: 'checkpoint' is faster there.

    Args:
        solver: The solver of the backward solve, with tolerances of its own: a name, config
            or instance, see `tfnode.solvers`. `None` for that of the forward solve.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 2 and appendix B; Pontryagin et al. (1962); Kidger, Chen,
    Lyons, *"Hey, that's not an ODE": Faster ODE Adjoints via Seminorms* (2021).
    """

    def __init__(self, solver=None):
        self.solver = None if solver is None else solvers.get(solver)

    def get_config(self):
        return {"solver": None if self.solver is None else solvers.serialize(self.solver)}

    def solve(self, problem: Problem):
        sources, lists, dtypes = find_sources(problem)
        stats = []

        # The sources are inputs, although the field reads them itself, so that the
        # tapes outside connect them with the result.
        @tf.custom_gradient
        def run(*inputs):
            with unrecorded(problem.solver):
                trajectory = problem.solver.integrate(
                    recorded(problem.field),
                    problem.y0,
                    problem.times,
                    quadratures=problem.quadratures,
                    final_only=problem.final_only,
                )
            trajectory = cut(trajectory)
            stats.append(trajectory.stats)

            def grad(*cotangents, variables=()):
                solver = problem.solver if self.solver is None else drivable(self.solver)
                arriving, factor = _solvable(cotangents, tf.float16 in dtypes)
                with unrecorded(solver):
                    gradients = _backward(problem, solver, sources, trajectory.states, arriving)
                gradients = [g * tf.cast(factor, g.dtype) for g in gradients]
                gradients = self.first_order_only(gradients, [*inputs, *cotangents])
                # `variables` are among the sources already.
                return (gradients, [None] * len(variables)) if variables else gradients

            return [*trajectory.states, *trajectory.quadratures], grad

        outputs = run(*problem.y0, problem.times, *[read(s) for s in sources])
        return self.refuse_lists(outputs, lists), stats[0]


def _solvable(cotangents, narrow):
    """Cotangents that a backward solve can take, and the factor to the gradients it gives.

    Gradients are linear in the cotangents. Where these are not finite, something after the solve
    failed, and the gradients must be NaN, which is how Keras finds the scale of a loss for float16;
    the backward solve gets zeros then, since it would report a failure of its own.

    Where the field computes in float16, which ends at 65,504, the solve gets cotangents of
    Euclidean norm 1: small enough for sums over a batch, large enough to be told from zero.
    """
    usable = finite(cotangents)
    scale = tf.ones([])
    if narrow:
        largest = tf.reduce_max([tf.cast(tf.reduce_max(tf.abs(c)), tf.float32) for c in cotangents])
        largest = tf.where(usable & (largest > 0.0), largest, 1.0)
        cotangents = [c / tf.cast(largest, c.dtype) for c in cotangents]
        squares = [tf.cast(tf.reduce_sum(c * c), tf.float32) for c in cotangents]
        norm = tf.maximum(tf.sqrt(tf.add_n(squares)), 1.0)  # Below 1 for zeros alone.
        cotangents = [c / tf.cast(norm, c.dtype) for c in cotangents]
        scale = largest * norm
    cotangents = [tf.where(usable, c, tf.zeros_like(c)) for c in cotangents]
    return cotangents, tf.where(usable, scale, math.nan)


def _backward(problem, solver, sources, states, cotangents):
    """Gradients in `y0`, the times and the sources."""
    size, times = len(problem.y0), problem.times
    # The adjoint of a quadrature is constant.
    cotangents, q_bar = cotangents[:size], cotangents[size:]

    @recorded
    def field(t, y):
        dy, dq = problem.replay(t, y)
        return [*dy, *dq]

    @recorded
    def augmented(t, state):
        # The product is linear in the cotangent, so the sign is cheapest there.
        negative = [-a for a in (*state[size:], *q_bar)]
        dy, y_bar, sources_bar = vjp(field, sources, t, state[:size], negative)
        return [*dy[:size], *y_bar], sources_bar

    def segment(span, y, adjoint, g, goal, first_step):
        result = solver.integrate(
            augmented,
            [*y, *adjoint],
            span,
            quadratures=g,
            final_only=True,
            first_step=first_step,
        )
        error = _distance(result.states[:size], goal)
        step = first_step if result.step is None else result.step
        stats = BackwardStats(*result.stats, error)
        return result.states[size:], result.quadratures, stats, step

    def rate(t, y, adjoint, q_bar=q_bar):
        """`adjoint . f(t, y)`: how the loss changes with the time at which y is read.

        Quadratures are read at the last time alone.
        """
        if not problem.time_gradient:
            return tf.zeros([], times.dtype)
        return inner([*adjoint, *q_bar], field(t, y), times.dtype)

    g = [tf.zeros_like(read(s)) for s in sources]
    if problem.final_only:
        last = rate(times[-1], states, cotangents)
        adjoint, g, stats, _ = segment(
            tf.reverse(times, [0]), states, list(cotangents), g, problem.y0, None
        )
        rates = tf.concat([tf.zeros_like(times[1:-1]), last[tf.newaxis]], 0)
    else:
        adjoint, g, stats, rates = _segments(
            segment, rate, augmented, solver, times, states, cotangents, q_bar, g
        )
    first = -rate(times[0], problem.y0, adjoint)
    if not problem.final_only:
        adjoint = [a + c[0] for a, c in zip(adjoint, cotangents)]
    if problem.on_backward is not None:
        rates_taken = 0
        if problem.time_gradient:
            rates_taken = 2 if problem.final_only else tf.size(times)
        problem.on_backward(stats._replace(num_evaluations=stats.num_evaluations + rates_taken))
    return [*adjoint, tf.concat([first[tf.newaxis], rates], 0), *g]


def _segments(segment, rate, augmented, solver, times, states, cotangents, q_bar, g):
    """From each requested time back to the one before, last to first."""
    count = tf.shape(times)[0] - 1
    step, spent = tf.zeros([], times.dtype), 0
    if hasattr(solver, "initial_step"):
        start = [x[-1] for x in (*states, *cotangents)]
        slope = augmented(times[-1], start)[0]
        span = times[-2] - times[-1]
        step, spent = solver.initial_step(augmented, times[-1], start, slope, span)
        spent += 1

    def body(i, adjoint, g, stats, rates, step):
        t, y = tf.gather(times, i), [tf.gather(s, i) for s in states]
        arriving = [tf.gather(c, i) for c in cotangents]
        is_last = tf.equal(i, count)
        rates = rates.write(
            i - 1, rate(t, y, arriving, [tf.where(is_last, a, tf.zeros_like(a)) for a in q_bar])
        )
        jumped = [a + c for a, c in zip(adjoint, arriving)]
        span = tf.stack([t, tf.gather(times, i - 1)])
        goal = [tf.gather(s, i - 1) for s in states]
        adjoint, g, cost, step = segment(span, y, jumped, g, goal, step)
        error = tf.maximum(stats.reconstruction_error, cost.reconstruction_error)
        stats = BackwardStats(*(a + b for a, b in zip(stats[:3], cost[:3])), error)
        return i - 1, adjoint, g, stats, rates, step

    zero = tf.zeros([], tf.int32)
    _, adjoint, g, stats, rates, _ = tf.while_loop(
        lambda i, *_: i > 0,
        body,
        (
            count,
            [tf.zeros_like(s[0]) for s in states],
            g,
            BackwardStats(zero + spent, zero, zero, tf.zeros([])),
            tf.TensorArray(times.dtype, count, element_shape=[]),
            step,
        ),
        maximum_iterations=count,
        parallel_iterations=1,
    )
    return adjoint, g, stats, rates.stack()


def _distance(found, expected):
    """The Euclidean distance of two lists of tensors, relative to the second."""

    def norm(tensors):
        return tf.sqrt(tf.add_n([tf.cast(tf.reduce_sum(x * x), tf.float32) for x in tensors]))

    difference = [x - y for x, y in zip(found, expected)]
    return tf.math.divide_no_nan(norm(difference), norm(expected))
