"""`Gradient`: the interface of the gradient methods."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.problem import Problem
from tfnode.solvers.solver import Solver


class Request(NamedTuple):
    """What is asked of a solve, beside the problem itself.

    Attributes:
        solver: The `Solver`.
        time_gradient: Whether the gradient in the times may be asked for.
        final_only: Whether only the state at the last time is wanted.
        counters: Variables to which every backward solve adds `(1, *BackwardStats)`, or `()`.
    """

    solver: Solver
    time_gradient: bool = False
    final_only: bool = False
    counters: tuple = ()


class BackwardStats(NamedTuple):
    """The cost of a backward solve, as in `Stats`, and how well it retraced the states.

    Attributes:
        num_evaluations: Evaluations of the vector field, most with a vector-Jacobian product.
        num_steps: Accepted steps.
        num_rejected: Rejected steps.
        reconstruction_error: Float scalar: the largest distance, over the requested times,
            of the state that was integrated backward from the stored one, relative to the
            latter, in the Euclidean norm. 0 where nothing is integrated backward.
    """

    num_evaluations: tf.Tensor
    num_steps: tf.Tensor
    num_rejected: tf.Tensor
    reconstruction_error: tf.Tensor


class Gradient:
    """Base of the gradient methods: `solve(problem, request) -> (outputs, stats)`.

    `outputs` is a list with a tensor for each component of the state, stacked over the
    times, or the last state where `request.final_only` is set; and then the quadratures at
    the last time.
    """

    higher_order = False  # Whether the gradient has a gradient itself.

    def check(self, solver: Any) -> None:
        """Raise `ValueError` where solves by this solver cannot be differentiated this way."""

    def solve(self, problem: Problem, request: Request) -> tuple[list, Any]:
        """Solve the problem so that the result is differentiable."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name that `tfnode.gradients.get` knows."""
        return type(self).__name__.lower()

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Gradient":
        """Make a gradient method from what `get_config` returned."""
        return cls(**config)
