"""Functions that return Keras models: classifiers with logits out, and densities."""

from tfnode.models.anode import anode
from tfnode.models.cnf import cnf
from tfnode.models.normalizing_flow import NormalizingFlow
from tfnode.models.ode_tuned import ode_tuned
from tfnode.models.odenet import odenet
from tfnode.models.resnet18 import resnet18

__all__ = ["NormalizingFlow", "anode", "cnf", "ode_tuned", "odenet", "resnet18"]
