"""Keras callbacks."""

from tfnode.callbacks.average_weights import AverageWeights
from tfnode.callbacks.backup import Backup
from tfnode.callbacks.curve_export import CurveExport
from tfnode.callbacks.divergence import Diverged, Divergence
from tfnode.callbacks.recalibrate import Recalibrate
from tfnode.callbacks.save_best import SaveBest
from tfnode.callbacks.solver_stats import SolverStats
from tfnode.callbacks.step_backup import StepBackup
from tfnode.callbacks.tensor_board import TensorBoard

__all__ = [
    "AverageWeights",
    "Backup",
    "CurveExport",
    "Diverged",
    "Divergence",
    "Recalibrate",
    "SaveBest",
    "SolverStats",
    "StepBackup",
    "TensorBoard",
]
