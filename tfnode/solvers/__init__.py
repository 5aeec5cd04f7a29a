"""Solvers of initial value problems, all of them `tfp.math.ode.Solver`s.

The classes are imported on first use, since TensorFlow Probability takes its time to load.
"""

import importlib
import pathlib
import re
from collections.abc import Callable
from typing import Any

_MODULES = {"ButcherTableau": "tableau", "RungeKutta": "runge_kutta", "Stats": "trajectory"}
# The names of the methods and their bases. They are read from the text of the files, since
# importing them would load TensorFlow. A method needs no entry anywhere else.
_BASES: dict[str, str] = {}
for _file in sorted(pathlib.Path(__file__).with_name("methods").glob("*.py")):
    for _name, _base in re.findall(
        r"^class ([A-Z]\w*)\(([\w.]+)\):", _file.read_text("utf-8"), re.M
    ):
        _BASES[_name] = _base
        _MODULES[_name] = f"methods.{_file.stem}"

# The names of the methods that take fixed steps alone, and of those that control their error.
FIXED_STEP = tuple(name.lower() for name, base in _BASES.items() if base == "Explicit")
ADAPTIVE = tuple(name.lower() for name, base in _BASES.items() if base == "Embedded")

__all__ = [*_MODULES, "deserialize", "get", "serialize"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _class(name: str) -> Callable[[], type]:
    return lambda: __getattr__(name)


_CLASSES = {name.lower(): _class(name) for name in _BASES}


def _base_class() -> type:
    import tensorflow_probability as tfp

    return tfp.math.ode.Solver


def get(identifier: Any) -> Any:
    """Return the solver that a name, a config or a `tfp.math.ode.Solver` stands for.

    Raises:
        ValueError: For anything else; the known names are listed.
    """
    from tfnode import registry

    return registry.get("solver", identifier, _CLASSES, _base_class)


def serialize(solver: Any) -> dict:
    """Return the config of a solver, from which `deserialize` makes an equal one."""
    from tfnode import registry

    return registry.serialize("solver", solver)


def deserialize(config: dict) -> Any:
    """Return the solver that a config made by `serialize` describes."""
    from tfnode import registry

    return registry.deserialize("solver", config, _CLASSES, _base_class)
