"""The continuous adjoint: gradients by a second solve, backward in time."""

from typing import Any

import keras
import tensorflow as tf

from tfnode import checks, solvers
from tfnode.field.sources import value_of
from tfnode.gradients import custom
from tfnode.gradients.base import BackwardStats, Gradient, Request
from tfnode.gradients.reconstruction import ReconstructionCheck, relative_distance
from tfnode.gradients.tapes import inner, recorded, vjp
from tfnode.problem import Problem
from tfnode.solvers.failure import Caller, nan_where
from tfnode.solvers.foreign import drivable


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
    When not to use: where trajectories run together, since the backward solve cannot
    reconstruct the state there, and the gradient would be wrong; with many requested times, each
    of which begins a solve of its own. 'checkpoint' is right and faster there.

    A lost gradient is not returned. At every requested time the backward solve is compared with
    the stored state. Where the solvers control their error and the difference is beyond
    `max_reconstruction_error` tolerances, the gradient is an error. Under XLA, which has no
    assertions, it is NaN. With fixed steps, where no tolerance says how large the difference
    may be, a relative difference above 0.1 is a warning; `tfnode.callbacks.SolverStats` shows it.

    Args:
        solver: The solver of the backward solve, with tolerances of its own: a name, config
            or instance, see `tfnode.solvers`. `None` for that of the forward solve.
        max_reconstruction_error: The largest Euclidean norm of the difference in tolerances,
            that is in units of `atol * sqrt(size) + rtol * norm(y)`, with those of the forward
            and the backward solver added. A positive number; `None` for no check and no warning.

    Raises:
        ValueError: If `max_reconstruction_error` is out of range.
        tf.errors.InvalidArgumentError: From a gradient, if the difference is too large.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 2 and appendix B; Pontryagin et al. (1962); Kidger, Chen,
    Lyons, *"Hey, that's not an ODE": Faster ODE Adjoints via Seminorms* (2021).
    """

    independent = False

    def __init__(self, solver: Any = None, max_reconstruction_error: float | None = 50.0):
        limit = max_reconstruction_error
        if limit is not None:
            wanted = "a positive number, in units of the solver's tolerances, or None"
            limit = checks.positive("max_reconstruction_error", limit, wanted)
        self.solver = None if solver is None else solvers.get(solver)
        self.max_reconstruction_error = limit

    def get_config(self) -> dict:
        return {
            "solver": None if self.solver is None else solvers.serialize(self.solver),
            "max_reconstruction_error": self.max_reconstruction_error,
        }

    def solve(self, problem: Problem, request: Request) -> tuple[list, Any]:
        return custom.solve(self.name, problem, request, self._backward)

    def _backward(self, solved: custom.Solved, cotangents: list) -> tuple:
        forward = solved.request.solver
        backward = forward if self.solver is None else drivable(self.solver)
        check = ReconstructionCheck(self.max_reconstruction_error, forward, backward, solved.origin)
        return _BackwardSolve(solved, backward, check, cotangents).run()


class _BackwardSolve:
    """The augmented ODE, solved from each requested time back to the one before."""

    DURING = (
        " in the backward solve of the gradient 'adjoint'; the forward solve succeeded, and the "
        "gradient 'checkpoint' needs no backward solve"
    )

    def __init__(self, solved: custom.Solved, solver: Any, check: Any, cotangents: list):
        self.solved, self.solver, self.check = solved, solver, check
        self.size, self.times = len(solved.y0), solved.times
        self.caller = Caller(solved.origin, self.DURING)
        # The adjoint of a quadrature is constant.
        self.cotangents, self.q_bar = cotangents[: self.size], cotangents[self.size :]

    def run(self) -> tuple:
        """Return the gradients in `y0`, the sources and the times, and the stats."""
        request, times = self.solved.request, self.times
        states, cotangents = self.solved.trajectory.states, self.cotangents
        g = [tf.zeros_like(value_of(s)) for s in self.solved.field.sources]
        if request.final_only:
            last = self._rate(times[-1], states, cotangents, self.q_bar)
            adjoint, g, stats, reached, _ = self._segment(
                tf.reverse(times, [0]), states, list(cotangents), g, self.solved.y0, None
            )
            rates = tf.concat([tf.zeros_like(times[1:-1]), last[tf.newaxis]], 0)
        else:
            adjoint, g, stats, reached, rates = self._segments(g)
        # A forward solve that failed without an error has nothing to compare.
        failed = self.solved.trajectory.failed
        reached = tf.where(failed, tf.zeros_like(reached[0]), reached[0]), reached[1]
        stats, lost = self.check.judged(stats, reached)
        lost |= failed
        first = -self._rate(self._after(0), self.solved.y0, adjoint, self.q_bar)
        if not request.final_only:
            adjoint = [a + c[0] for a, c in zip(adjoint, cotangents)]
        if request.time_gradient:
            taken = 2 if request.final_only else tf.size(times)
            stats = stats._replace(num_evaluations=stats.num_evaluations + taken)
        gradients = adjoint, g, tf.concat([first[tf.newaxis], rates], 0)
        return *tf.nest.map_structure(lambda x: nan_where(lost, x), gradients), stats

    def _field(self, t: tf.Tensor, y: list) -> list:
        dy, dq = recorded(self.solved.field)(t, y)
        return [*dy, *dq]

    def _augmented(self, t: tf.Tensor, state: list) -> tuple[list, list]:
        """Return the derivative of the state and its adjoint, and those of the gradients."""
        size = self.size
        # The product is linear in the cotangent, so the sign is cheapest there.
        negative = [-a for a in (*state[size:], *self.q_bar)]
        dy, y_bar, sources_bar = recorded(vjp)(
            self._field, self.solved.field.sources, t, state[:size], negative
        )
        return [*dy[:size], *y_bar], sources_bar

    def _rate(self, t: tf.Tensor, y: list, adjoint: list, q_bar: list) -> tf.Tensor:
        """Return `adjoint . f(t, y)`: how the loss changes with the time at which y is read.

        Quadratures are read at the last time alone.
        """
        if not self.solved.request.time_gradient:
            return tf.zeros([], self.times.dtype)
        return inner([*adjoint, *q_bar], self._field(t, y), self.times.dtype)

    def _before(self, i: Any) -> tf.Tensor:
        """Return the time before which the dynamics are those of the step to time `i`."""
        t, first = tf.gather(self.times, i), self.times[0]
        return t if self.solved.stops is None else tf.math.nextafter(t, first)

    def _after(self, i: Any) -> tf.Tensor:
        """Return the same on the other side."""
        t, last = tf.gather(self.times, i), self.times[-1]
        return t if self.solved.stops is None else tf.math.nextafter(t, last)

    def _segment(self, span, y, adjoint, g, goal, first_step) -> tuple:
        """Solve over one interval, and compare the state at its end with the stored one."""
        result = self.solver.integrate(
            self._augmented,
            [*y, *adjoint],
            span,
            quadratures=g,
            final_only=True,
            first_step=first_step,
            caller=self.caller,
            # There are no others between two times.
            stops=None if self.solved.stops is None else tf.ones([2], tf.int32),
        )
        found = result.states[: self.size]
        step = first_step if result.step is None else result.step
        stats = BackwardStats(*result.stats, relative_distance(found, goal))
        reached = self.check.reached(found, goal, span[-1])
        return result.states[self.size :], result.quadratures, stats, reached, step

    def _segments(self, g: list) -> tuple:
        """Solve from each requested time back to the one before, last to first."""
        solver, times, states = self.solver, self.times, self.solved.trajectory.states
        cotangents = self.cotangents
        count = tf.shape(times)[0] - 1
        start = [x[-1] for x in (*states, *cotangents)]
        # With stops the last two times may be the same.
        span = (times[-2] if self.solved.stops is None else times[0]) - times[-1]
        step, spent = solver.initial_step(self._augmented, times[-1], start, span)

        def body(i, adjoint, g, stats, worst, rates, step):
            t, y = tf.gather(times, i), [tf.gather(s, i) for s in states]
            arriving = [tf.gather(c, i) for c in cotangents]
            is_last = tf.equal(i, count)
            q_bar = [tf.where(is_last, a, tf.zeros_like(a)) for a in self.q_bar]
            rate = self._rate(self._before(i), y, arriving, q_bar)
            if self.solved.stops is not None:
                # A jump of the dynamics at this time moves with it.
                rate += self._rate(self._before(i), y, adjoint, q_bar)
                rate -= self._rate(self._after(i), y, adjoint, q_bar)
            rates = rates.write(i - 1, rate)
            jumped = [a + c for a, c in zip(adjoint, arriving)]
            span = tf.stack([t, tf.gather(times, i - 1)])
            goal = [tf.gather(s, i - 1) for s in states]
            adjoint, g, cost, reached, step = self._segment(span, y, jumped, g, goal, step)
            error = tf.maximum(stats.reconstruction_error, cost.reconstruction_error)
            stats = BackwardStats(*(a + b for a, b in zip(stats[:3], cost[:3])), error)
            return i - 1, adjoint, g, stats, self.check.worse(worst, reached), rates, step

        zero = tf.zeros([], tf.int32)
        _, adjoint, g, stats, worst, rates, _ = tf.while_loop(
            lambda i, *_: i > 0,
            body,
            (
                count,
                [tf.zeros_like(s[0]) for s in states],
                g,
                BackwardStats(zero + spent, zero, zero, tf.zeros([])),
                self.check.start(times),
                tf.TensorArray(times.dtype, count, element_shape=[]),
                step,
            ),
            maximum_iterations=count,
            parallel_iterations=1,
        )
        return adjoint, g, stats, worst, rates.stack()
