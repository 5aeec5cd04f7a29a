"""Functions that return Keras models with logits out."""

from tfnode.models.odenet import odenet
from tfnode.models.resnet18 import resnet18

__all__ = ["odenet", "resnet18"]
