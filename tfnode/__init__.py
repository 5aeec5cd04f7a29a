"""Neural ordinary differential equations for Keras 3 and TensorFlow."""

import importlib
import importlib.abc
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfnode import (
        callbacks,
        data,
        gradients,
        interpolation,
        layers,
        losses,
        metrics,
        models,
        regularizers,
        solvers,
    )
    from tfnode.events import odeint_event
    from tfnode.integrate import odeint
    from tfnode.layers import ODEBlock

__version__ = "0.1.0"

__all__ = [
    "ODEBlock",
    "__version__",
    "callbacks",
    "data",
    "gradients",
    "interpolation",
    "layers",
    "losses",
    "metrics",
    "models",
    "odeint",
    "odeint_event",
    "regularizers",
    "solvers",
]

_FUNCTIONS = {
    "ODEBlock": "tfnode.layers",
    "odeint": "tfnode.integrate",
    "odeint_event": "tfnode.events",
}
# Importing these registers their classes with Keras, so that saved models load.
_REGISTERING = ("gradients", "layers", "losses", "metrics", "models", "regularizers", "solvers")


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return importlib.import_module(f"tfnode.{name}")
    raise AttributeError(f"module 'tfnode' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Not what this file imports for itself.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


# The one mechanism that decides what loads TensorFlow. Python runs this file before every
# command, too, and nothing here tells `python -m tfnode.report`, which must not wait for
# TensorFlow, from `import tfnode`. So this file loads nothing that is heavy. But a model can be
# loaded only once Keras is there. So the classes are registered when Keras is, at once or later:
# after the outermost import, of Keras or of a module of tfnode, that loads Keras.


def _check_backend(keras: ModuleType) -> None:
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            "tfnode needs Keras's backend 'tensorflow': set the environment variable "
            f"KERAS_BACKEND=tensorflow. Received: backend={keras.config.backend()!r}"
        )


def _register() -> None:
    for name in _REGISTERING:
        importlib.import_module(f"tfnode.{name}")


class _Registering(importlib.abc.MetaPathFinder):
    """A finder that finds nothing by itself, but sees what is imported."""

    def __init__(self) -> None:
        self.depth = 0

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "keras" and not name.startswith("tfnode."):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (f.find_spec(name, path, target) for f in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self.execute(execute, module)  # type: ignore
        return spec

    def execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        self.depth += 1
        try:
            execute(module)
        finally:
            self.depth -= 1
        if module.__name__ == "keras":
            _check_backend(module)
        # Within another import of tfnode, its modules may be incomplete.
        if self.depth == 0 and "keras" in sys.modules and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()


if "keras" in sys.modules:
    _check_backend(sys.modules["keras"])
    _register()
else:
    sys.meta_path.insert(0, _Registering())
