"""Paths through data, as controls `u(t)` in the dynamics of `tfnode.odeint`."""

from tfnode.interpolation.hermite import Hermite
from tfnode.interpolation.linear import Linear

__all__ = ["Hermite", "Linear"]
