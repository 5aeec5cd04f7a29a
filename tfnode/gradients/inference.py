"""A solve without a gradient."""

from typing import Any

from tfnode.gradients.base import Gradient, Request
from tfnode.problem import Problem
from tfnode.solvers.failure import Caller


class Inference(Gradient):
    """Solve once, for exported models, in which nobody asks for a gradient."""

    def solve(self, problem: Problem, request: Request) -> tuple[list, Any]:
        trajectory = request.solver.integrate(
            problem.field,
            problem.y0,
            problem.times,
            final_only=request.final_only,
            caller=Caller(problem.origin),
            drop=problem.drop,
            stops=problem.stops,
        )
        return list(trajectory.states), trajectory.stats
