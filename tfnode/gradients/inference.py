"""A solve without a gradient, for models that are exported."""

import sys
from typing import Any

import tensorflow as tf

from tfnode.gradients.base import Gradient, Request
from tfnode.problem import Problem
from tfnode.solvers.failure import Caller

# The converters of Keras's `model.export`, each with the argument `format` that stands for it.
_CONVERTERS = {"keras.src.export.onnx": "onnx", "keras.src.export.litert": "litert"}


class Inference(Gradient):
    """Solve once, for exported models: nobody asks them for a gradient."""

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


def converter() -> str | None:
    """Return for which format Keras traces the model: "onnx", "litert", or `None` for no such.

    Keras tells its layers nothing of an export, but it is among their callers.
    """
    if tf.executing_eagerly():
        return None
    frame = sys._getframe()
    while frame is not None:
        found = _CONVERTERS.get(frame.f_globals.get("__name__", ""))
        if found is not None:
            return found
        frame = frame.f_back
    return None
