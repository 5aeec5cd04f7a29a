"""The settings of each model, one model a file."""

import importlib
import pkgutil

from tfnode.lab.model_settings.base import ModelSettings

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

# Name of a function in `tfnode.models`, and its settings.
MODELS = {kind.model_fields["name"].default: kind for kind in ModelSettings.__subclasses__()}

__all__ = ["MODELS", "ModelSettings"]
