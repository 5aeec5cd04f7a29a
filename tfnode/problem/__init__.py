"""An initial value problem, in the form that solvers and gradients take."""

from tfnode.problem.problem import Problem

__all__ = ["Problem"]
