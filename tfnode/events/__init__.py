"""Solves up to the time at which something happens."""

from tfnode.events.event import odeint_event
from tfnode.events.samples import SampleEvents

__all__ = ["SampleEvents", "odeint_event"]
