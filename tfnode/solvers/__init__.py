"""Solvers of initial value problems, all of them `tfp.math.ode.Solver`s.

The classes are imported on first use, since TensorFlow Probability takes its time to load.
"""

import functools
import importlib
from typing import Any

from tfnode import registry

_MODULES = {
    "Euler": "fixed_methods",
    "Midpoint": "fixed_methods",
    "Heun": "fixed_methods",
    "RK4": "fixed_methods",
    "RK38": "fixed_methods",
    "Heun21": "adaptive_methods",
    "Bosh3": "adaptive_methods",
    "Dopri5": "adaptive_methods",
    "Tsit5": "adaptive_methods",
    "Dopri8": "dopri8",
    "BDF": "bdf",
    "ButcherTableau": "tableau",
    "RungeKutta": "runge_kutta",
    "Stats": "trajectory",
}
_NOT_SOLVERS = ("ButcherTableau", "RungeKutta", "Stats")

__all__ = [*_MODULES, "get", "serialize", "deserialize"]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted(__all__)


_CLASSES = {
    name.lower(): functools.partial(__getattr__, name)
    for name in _MODULES
    if name not in _NOT_SOLVERS
}


def _base():
    import tensorflow_probability as tfp

    return tfp.math.ode.Solver


def get(identifier: Any):
    """The solver that a name, a config or a `tfp.math.ode.Solver` stands for.

    Raises:
        ValueError: For anything else; the known names are listed.
    """
    return registry.get("solver", identifier, _CLASSES, _base)


def serialize(solver: Any) -> dict:
    """Config of a solver, from which `deserialize` makes an equal one."""
    return registry.serialize("solver", solver)


def deserialize(config: dict):
    """The solver that a config made by `serialize` describes."""
    return registry.deserialize("solver", config, _CLASSES, _base)
