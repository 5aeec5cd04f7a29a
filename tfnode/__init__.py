"""Neural ordinary differential equations for Keras 3 and TensorFlow."""

import importlib

from tfnode import gradients, layers, solvers
from tfnode.integrate import odeint
from tfnode.layers import ODEBlock

__version__ = "0.1.0"

__all__ = [
    "ODEBlock",
    "callbacks",
    "data",
    "gradients",
    "layers",
    "models",
    "odeint",
    "solvers",
]


def __getattr__(name):
    # What a user of the layers does not need is imported when it is asked for.
    if name in ("callbacks", "data", "models", "report"):
        return importlib.import_module(f"tfnode.{name}")
    raise AttributeError(f"module 'tfnode' has no attribute {name!r}")
