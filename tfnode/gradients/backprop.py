"""Plain automatic differentiation through the solver."""

from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import record

from tfnode.gradients.base import Gradient, Request
from tfnode.gradients.refusal import refuse_python
from tfnode.gradients.tapes import cut, recorded
from tfnode.problem import Problem
from tfnode.problem.field.sources import value_of
from tfnode.solvers.failure import Caller
from tfnode.solvers.foreign import drivable
from tfnode.solvers.trajectory import Trajectory


@keras.saving.register_keras_serializable("tfnode")
class Backprop(Gradient):
    """Backpropagation through the operations of the solver.

    An adaptive solve is done twice: first without a gradient, to find its steps, then through
    the accepted ones alone.

    Memory: every evaluation of the vector field, so it grows with the number of steps.
    Exact: the gradient of the discrete solution, to rounding. Higher derivatives: yes; under
    XLA in float32 alone, of fixed steps that are all in one interval or one in each, or of
    adaptive steps between two times. Others are mostly an error of TensorFlow's own there.
    A Jacobian through adaptive steps needs `tape.jacobian(..., experimental_use_pfor=False)`.
    When not to use: with many steps, or a vector field whose activations are large;
    under XLA where the number of steps is known only at run time; with BDF, whose Newton
    iterations stop long before their derivatives have converged.

    Raises:
        ValueError: Where it is used with TFP's `BDF`, or ours.
    """

    higher_order = True

    def check(self, solver: Any) -> None:
        if not drivable(solver).differentiable:
            raise ValueError(
                "The gradient 'backprop' is wrong for BDF, whose Newton iterations stop before "
                "their derivatives have converged. Use 'adjoint' instead. "
                f"Received: solver={solver}"
            )

    def solve(self, problem: Problem, request: Request) -> tuple[list, Any]:
        solver = request.solver
        # Independent samples that fail must not spoil the gradients of the others.
        apart = problem.times.shape.rank == 2 and solver.controller.on_failure == "nan"
        steps = _accepted_steps(problem, request) if solver.adaptive or apart else None
        trajectory = solver.integrate(
            problem.field,
            problem.y0,
            problem.times,
            caller=Caller(problem.origin),
            quadratures=problem.quadratures,
            final_only=request.final_only,
            steps=steps,
            drop=problem.drop,
            stops=problem.stops,
        )
        outputs = [*trajectory.states, *trajectory.quadratures]
        values = [value_of(s) for _, s in problem.vector_field.sources]
        if problem.times.shape.rank == 2:
            outputs = _connected(outputs, [problem.times, *values])
        return refuse_python(self.name, outputs, problem, values), trajectory.stats


def _connected(outputs: list, others: list) -> list:
    """Return the outputs, with a gradient of zero in the others where no sample takes a step."""
    nothing = [
        tf.cast(tf.reduce_sum(tf.reshape(x, [-1])[:0]), tf.float64)
        for x in others
        if x.dtype.is_floating
    ]
    return [y + tf.cast(tf.add_n(nothing), y.dtype) for y in outputs]


def _accepted_steps(problem: Problem, request: Request) -> Trajectory:
    """Solve without a gradient, and return the accepted steps, without the states.

    A gradient must not go through rejected steps: where one left the domain of the dynamics its
    derivatives are NaN, and 0 times NaN is NaN.
    """
    field = problem.vector_field
    with record.stop_recording():
        trajectory = request.solver.integrate(
            recorded(field.bind(field.reads)),
            problem.y0,
            problem.times,
            caller=Caller(problem.origin),
            final_only=request.final_only,
            max_states=2,
            drop=problem.drop,
            stops=problem.stops,
        )
    with tf.control_dependencies(trajectory.states[:1]):
        # The error of a failed solve comes before any gradient.
        return cut(trajectory._replace(states=[]))
