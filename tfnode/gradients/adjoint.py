"""The continuous adjoint: gradients by a second solve, backward in time."""

import keras
import tensorflow as tf

from tfnode.gradients.problem import Gradient, Problem, find_sources, read, vjp, without_quadratures
from tfnode.solvers.trajectory import Stats


@keras.saving.register_keras_serializable("tfnode")
class Adjoint(Gradient):
    """The adjoint sensitivity method.

    With `a = dL/dy`, the state, its adjoint and the gradient in the parameters follow

    ```
    dy/dt = f(t, y)      da/dt = -a^T df/dy      dg/dt = -a^T df/dtheta
    ```

    from the last time back to the first. At every requested time the state starts again
    from the stored one and `a` jumps by the gradient that arrives there. The parameters
    are quadratures: nothing depends on `g`, so it costs no stage values.

    Memory: constant in the number of steps, inside `tf.function` and so in `fit`; in eager
    execution the tape outside keeps what the forward solve computes. Exact: only up to the
    error of the solver, which falls with the step; with few steps it is the gradient of the
    differential equation rather than of the discrete solution. Higher derivatives: no.
    When not to use: where the dynamics contract strongly, since the backward solve then
    cannot reconstruct the state, and the gradient is wrong.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 2 and appendix B; Pontryagin et al. (1962).
    """

    def solve(self, problem: Problem):
        sources = find_sources(problem)
        stats = []

        # The sources are inputs, although the field reads them itself, so that the
        # tapes outside connect them with the result.
        @tf.custom_gradient
        def run(*inputs):
            del inputs
            # Not with the tapes stopped: the dynamics may have one of their own.
            trajectory = problem.solver.integrate(
                without_quadratures(problem.field),
                problem.y0,
                problem.times,
                final_only=problem.final_only,
            )
            stats.append(trajectory.stats)

            def grad(*cotangents, variables=()):
                gradients = self._backward(problem, sources, trajectory.states, cotangents)
                # `variables` are among the sources already.
                return (gradients, [None] * len(variables)) if variables else gradients

            return trajectory.states, grad

        states = run(*problem.y0, problem.times, *[read(s) for s in sources])
        return states, stats[0]

    def _backward(self, problem, sources, states, cotangents):
        """Gradients in `y0`, the times and the sources."""
        size = len(problem.y0)
        field, times = problem.replay, problem.times

        def augmented(t, state):
            # The product is linear in the cotangent, so the sign is cheapest there.
            negative = [-a for a in state[size:]]
            dy, y_bar, sources_bar = vjp(field, sources, t, state[:size], negative)
            return [*dy, *y_bar], sources_bar

        def segment(span, y, adjoint, g):
            result = problem.solver.integrate(
                augmented, [*y, *adjoint], span, quadratures=g, final_only=True
            )
            return result.states[size:], result.quadratures, result.stats

        def rate(t, y, adjoint):
            """`adjoint . f(t, y)`: how the loss changes with the time at which y is read."""
            if not problem.time_gradient:
                return tf.zeros([], times.dtype)
            products = zip(adjoint, field(t, y))
            return tf.add_n([tf.cast(tf.reduce_sum(a * dy), times.dtype) for a, dy in products])

        g = [tf.zeros_like(read(s)) for s in sources]
        if problem.final_only:
            last = rate(times[-1], states, cotangents)
            adjoint, g, stats = segment(tf.reverse(times, [0]), states, list(cotangents), g)
            rates = tf.concat([tf.zeros_like(times[1:-1]), last[tf.newaxis]], 0)
        else:
            adjoint, g, stats, rates = self._segments(segment, rate, times, states, cotangents, g)
        first = -rate(times[0], problem.y0, adjoint)
        if not problem.final_only:
            adjoint = [a + c[0] for a, c in zip(adjoint, cotangents)]
        if problem.on_backward is not None:
            problem.on_backward(stats)
        return [*adjoint, tf.concat([first[tf.newaxis], rates], 0), *g]

    def _segments(self, segment, rate, times, states, cotangents, g):
        """From each requested time back to the one before, last to first."""
        count = tf.shape(times)[0] - 1

        def body(i, adjoint, g, stats, rates):
            t, y = tf.gather(times, i), [tf.gather(s, i) for s in states]
            arriving = [tf.gather(c, i) for c in cotangents]
            rates = rates.write(i - 1, rate(t, y, arriving))
            jumped = [a + c for a, c in zip(adjoint, arriving)]
            adjoint, g, cost = segment(tf.stack([t, tf.gather(times, i - 1)]), y, jumped, g)
            stats = tf.nest.map_structure(tf.add, stats, cost)
            return i - 1, adjoint, g, stats, rates

        zero = tf.zeros([], tf.int32)
        _, adjoint, g, stats, rates = tf.while_loop(
            lambda i, *_: i > 0,
            body,
            (
                count,
                [tf.zeros_like(s[0]) for s in states],
                g,
                Stats(zero, zero, zero),
                tf.TensorArray(times.dtype, count, element_shape=[]),
            ),
            maximum_iterations=count,
            parallel_iterations=1,
        )
        return adjoint, g, stats, rates.stack()
