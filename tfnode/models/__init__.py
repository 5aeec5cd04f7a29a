"""Functions that return Keras models with logits out."""

from tfnode.models.anode import anode
from tfnode.models.odenet import odenet
from tfnode.models.resnet18 import resnet18

__all__ = ["anode", "odenet", "resnet18"]
