"""Plain automatic differentiation through the solver."""

import keras

from tfnode.gradients.problem import Gradient, Problem


@keras.saving.register_keras_serializable("tfnode")
class Backprop(Gradient):
    """Backpropagation through the operations of the solver.

    Memory: every evaluation of the vector field, so it grows with the number of steps.
    Exact: the gradient of the discrete solution, to rounding. Higher derivatives: yes; under
    XLA in float32 alone, of fixed steps that are all in one interval or one in each, or of
    adaptive steps between two times. Others are mostly an error of TensorFlow's own there.
    When not to use: with many steps, or a vector field whose activations are large;
    under XLA where the number of steps is known only at run time; with BDF, whose Newton
    iterations stop long before their derivatives have converged.

    Raises:
        ValueError: Where it is used with TFP's `BDF`, or ours.
    """

    def check(self, solver):
        if hasattr(solver, "tableau"):
            return
        # Slow to load, and there already where it is needed.
        import tensorflow_probability as tfp

        if isinstance(solver, tfp.math.ode.BDF):
            raise ValueError(
                "The gradient 'backprop' is wrong for BDF, whose Newton iterations stop before "
                "their derivatives have converged. Use 'adjoint' instead. "
                f"Received: solver={solver}"
            )

    def solve(self, problem: Problem):
        trajectory = problem.solver.integrate(
            problem.field,
            problem.y0,
            problem.times,
            quadratures=problem.quadratures,
            final_only=problem.final_only,
        )
        return [*trajectory.states, *trajectory.quadratures], trajectory.stats
