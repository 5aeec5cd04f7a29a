"""Keras callbacks."""

from tfnode.callbacks.curve_export import CurveExport
from tfnode.callbacks.recalibrate import Recalibrate
from tfnode.callbacks.save_best import SaveBest
from tfnode.callbacks.solver_stats import SolverStats

__all__ = ["CurveExport", "Recalibrate", "SaveBest", "SolverStats"]
