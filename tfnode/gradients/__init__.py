"""Ways to differentiate a solve."""

from tfnode import registry
from tfnode.gradients.adjoint import Adjoint
from tfnode.gradients.backprop import Backprop
from tfnode.gradients.checkpoint import Checkpoint
from tfnode.gradients.problem import Gradient

__all__ = ["Adjoint", "Backprop", "Checkpoint", "Gradient", "deserialize", "get", "serialize"]

_CLASSES = {c.__name__.lower(): (lambda c=c: c) for c in (Adjoint, Backprop, Checkpoint)}


def get(identifier: str | dict | Gradient) -> Gradient:
    """The gradient method that a name, a config or a `Gradient` stands for.

    Raises:
        ValueError: For anything else; the known names are listed.
    """
    return registry.get("gradient", identifier, _CLASSES, lambda: Gradient)


def serialize(gradient: Gradient) -> dict:
    """Config of a gradient method, from which `deserialize` makes an equal one."""
    return registry.serialize("gradient", gradient)


def deserialize(config: dict) -> Gradient:
    """The gradient method that a config made by `serialize` describes."""
    return registry.deserialize("gradient", config, _CLASSES, lambda: Gradient)
