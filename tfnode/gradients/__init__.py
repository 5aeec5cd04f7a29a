"""Ways to differentiate a solve."""

from typing import Any

from tfnode import registry
from tfnode.gradients.adjoint import Adjoint
from tfnode.gradients.backprop import Backprop
from tfnode.gradients.base import Gradient
from tfnode.gradients.checkpoint import Checkpoint
from tfnode.solvers.foreign import drivable

__all__ = ["Adjoint", "Backprop", "Checkpoint", "Gradient", "deserialize", "get", "serialize"]

_CLASSES = {c.__name__.lower(): (lambda c=c: c) for c in (Adjoint, Backprop, Checkpoint)}


def get(identifier: str | dict | Gradient | None, solver: Any = None) -> Gradient:
    """Return the gradient method that a name, a config or a `Gradient` stands for.

    Args:
        identifier: A name, a config or an instance. `None` stands for the exact gradient of
            what the solver computes, 'checkpoint'; for a solver of TensorFlow Probability,
            which does not tell its steps, for 'adjoint'.
        solver: The solver, where the identifier is `None`.

    Raises:
        ValueError: For anything else; the known names are listed.
    """
    if identifier is None:
        exact = solver is not None and drivable(solver).tells_steps
        return Checkpoint() if exact else Adjoint()
    return registry.get("gradient", identifier, _CLASSES, Gradient)


def serialize(gradient: Gradient) -> dict:
    """Return the config of a gradient method, from which `deserialize` makes an equal one."""
    return registry.serialize("gradient", gradient)


def deserialize(config: dict) -> Gradient:
    """Return the gradient method that a config made by `serialize` describes."""
    return registry.deserialize("gradient", config, _CLASSES, Gradient)
