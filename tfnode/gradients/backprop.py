"""Plain automatic differentiation through the solver."""

import keras
import tensorflow_probability as tfp

from tfnode.gradients.problem import Gradient, Problem


@keras.saving.register_keras_serializable("tfnode")
class Backprop(Gradient):
    """Backpropagation through the operations of the solver.

    Memory: every evaluation of the vector field, so it grows with the number of steps.
    Exact: the gradient of the discrete solution, to rounding. Higher derivatives: yes.
    When not to use: with many steps, or a vector field whose activations are large;
    under XLA where the number of steps is known only at run time; with BDF, whose Newton
    iterations stop long before their derivatives have converged.

    Raises:
        ValueError: From a solve with TFP's `BDF`, or ours.
    """

    def solve(self, problem: Problem):
        if isinstance(getattr(problem.solver, "solver", None), tfp.math.ode.BDF):
            raise ValueError(
                "The gradient 'backprop' is wrong for BDF, whose Newton iterations stop before "
                "their derivatives have converged. Use 'adjoint' instead. "
                f"Received: solver={problem.solver.solver}"
            )
        trajectory = problem.solver.integrate(
            problem.field,
            problem.y0,
            problem.times,
            quadratures=problem.quadratures,
            final_only=problem.final_only,
        )
        return [*trajectory.states, *trajectory.quadratures], trajectory.stats
