"""Solvers of initial value problems, all of them `tfp.math.ode.Solver`s.

The classes are imported on first use, since TensorFlow Probability takes its time to load.
"""

import importlib
import inspect
import pathlib
import re
import warnings
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


def get(identifier: Any, **options: Any) -> Any:
    """Return the solver that a name, a config or a `tfp.math.ode.Solver` stands for.

    Args:
        identifier: A name, a config or an instance.
        **options: Arguments of the constructor beside a name, such as `rtol` or `num_steps`.
            `None` stands for the default.

    Raises:
        ValueError: For anything else, of which the message lists the known names; for options
            that the solver does not have, or that stand beside a config or an instance.
    """
    from tfnode import registry

    options = {name: value for name, value in options.items() if value is not None}
    solver = registry.get("solver", identifier, _CLASSES, _base_class())
    if not options:
        return solver
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    if not isinstance(identifier, str):
        raise ValueError(
            "Options of a solver go beside its name. Give an instance its arguments where it is "
            f"made. Received: solver={identifier!r}, {given}"
        )
    known = tuple(inspect.signature(type(solver)).parameters)
    if not options.keys() <= set(known):
        raise ValueError(
            f"The options of the solver {identifier!r} are {', '.join(known)}. Received: {given}"
        )
    return type(solver)(**options)


def for_solve(identifier: Any, **options: Any) -> Any:
    """Return the solver as `get` does, and warn of fixed steps whose number nobody chose.

    Args:
        identifier, **options: As in `get`.
    """
    solver = get(identifier, **options)
    if nobody_chose_steps(identifier, **options):
        warn_of_single_steps(solver, stacklevel=4)  # The line that called the caller.
    return solver


def nobody_chose_steps(
    identifier: Any, *, num_steps: int | None = None, step_size: float | None = None, **_: Any
) -> bool:
    """Return whether a solver of fixed steps is named without their number."""
    named = isinstance(identifier, str) and identifier.lower() in FIXED_STEP
    return named and num_steps is None and step_size is None


def warn_of_single_steps(solver: Any, stacklevel: int = 2) -> None:
    """Warn that nothing controls the error of a solver."""
    name = type(solver).__name__
    warnings.warn(
        f"The solver {name.lower()!r} takes one step from each time to the next, and nothing "
        "controls its error. Choose num_steps=, or step_size=, or a solver that controls "
        f'its error, such as "dopri5". {name}() chooses one step.',
        UserWarning,
        stacklevel=stacklevel,
    )


def serialize(solver: Any) -> dict:
    """Return the config of a solver, from which `deserialize` makes an equal one."""
    from tfnode import registry

    return registry.serialize("solver", solver)


def deserialize(config: dict) -> Any:
    """Return the solver that a config made by `serialize` describes."""
    from tfnode import registry

    return registry.deserialize("solver", config, _CLASSES, _base_class())
