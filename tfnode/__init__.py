"""Neural ordinary differential equations for Keras 3 and TensorFlow."""

import importlib
import sys

from tfnode.version import __version__

__all__ = [
    "ODEBlock",
    "__version__",
    "callbacks",
    "data",
    "gradients",
    "layers",
    "losses",
    "metrics",
    "models",
    "odeint",
    "odeint_event",
    "regularizers",
    "solvers",
]

_COMMANDS = (
    *("tfnode.classify", "tfnode.export", "tfnode.report", "tfnode.reproduce."),
    *("tfnode.study", "tfnode.tune"),
)


def _runs_command():
    """Whether Python is starting `python -m` of a command.

    Its arguments shall not wait for TensorFlow. While Python looks for the module to
    run, `sys.argv[0]` is "-m".
    """
    return sys.argv[:1] == ["-m"] and any(name.startswith(_COMMANDS) for name in sys.orig_argv)


if not _runs_command():
    # Importing these registers them with Keras, so that models load.
    from tfnode import gradients, layers, losses, metrics, models, regularizers, solvers
    from tfnode.events import odeint_event
    from tfnode.integrate import odeint
    from tfnode.layers import ODEBlock


def __getattr__(name):
    # What a user of the layers does not need is imported when it is asked for.
    if name in ("callbacks", "data"):
        return importlib.import_module(f"tfnode.{name}")
    raise AttributeError(f"module 'tfnode' has no attribute {name!r}")
