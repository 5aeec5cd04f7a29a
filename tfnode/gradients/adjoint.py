"""The continuous adjoint: gradients by a second solve, backward in time."""

from typing import Any

import keras

from tfnode import checks, solvers
from tfnode.gradients import custom
from tfnode.gradients.backward_solve import BackwardSolve, SampleBackwardSolve
from tfnode.gradients.base import Gradient, Request
from tfnode.gradients.parts import spoiled, without_failed
from tfnode.gradients.reconstruction import ReconstructionCheck
from tfnode.problem import Problem
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
    of which begins a solve of its own. 'checkpoint' is right and faster there. Independent
    samples share the steps of the backward solve, in the fraction of each interval.

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
        times = problem.times
        if times.shape.rank == 1 or times.shape[1] == 2 or not request.final_only:
            return custom.solve(self, problem, request, self._backward)
        # The backward solve of independent samples goes from one requested time to the other.
        every = request._replace(final_only=False)
        outputs, stats = custom.solve(self, problem, every, self._backward)
        return [x[-1] for x in outputs], stats

    def _backward(self, solved: custom.Solved, cotangents: list) -> tuple:
        forward = solved.request.solver
        backward = forward if self.solver is None else drivable(self.solver)
        check = ReconstructionCheck(self.max_reconstruction_error, forward, backward, solved.origin)
        if solved.times.shape.rank == 1:
            return BackwardSolve(solved, backward, check, cotangents).run()
        cotangents, lost = without_failed(solved, cotangents)
        *gradients, stats = SampleBackwardSolve(solved, backward, check, cotangents).run()
        return *spoiled(lost, *gradients), stats
