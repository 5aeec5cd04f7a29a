"""Figures of training curves."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfnode.files.history import score_of
from tfnode.files.whole import replacing

# Differences and multiples of larger numbers overflow in matplotlib.
LARGEST = 1e300


def new_figure(
    columns: int = 1, width: float = 5.0, height: float = 3.6
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `columns` axes side by side, drawn without a display.

    Returns:
        `(figure, list of axes)`.
    """
    figure = blank_figure(width * columns, height)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def blank_figure(width: float, height: float) -> Figure:
    """Return a figure without axes, of a size in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


Curve = tuple[Sequence[float], Sequence[float]]


def draw_curves(axis: Axes, curves: Mapping[str, Curve], ylabel: str) -> None:
    """Draw `{label: (epochs, values)}` over epochs."""
    for epochs, values in curves.values():
        axis.plot(epochs, values, marker="o", markersize=3)
    _over_epochs(axis, curves, ylabel)


def draw_bands(axis: Axes, curves: Mapping[str, Sequence[Curve]], ylabel: str) -> None:
    """Draw `{label: [(epochs, values), ...]}` over epochs, as mean and standard deviation.

    A band covers the epochs that all curves of its label have.
    """
    for runs in curves.values():
        epochs = sorted(set.intersection(*(set(epochs) for epochs, _ in runs)))
        values = np.array([[dict(zip(*run))[epoch] for epoch in epochs] for run in runs])
        mean = values.mean(axis=0)  # (epochs,)
        (line,) = axis.plot(epochs, mean, linewidth=1.3)
        if len(runs) > 1:
            sd = values.std(axis=0, ddof=1)
            axis.fill_between(
                epochs, mean - sd, mean + sd, color=line.get_color(), alpha=0.2, linewidth=0
            )
    _over_epochs(axis, curves, ylabel)


def _over_epochs(axis: Axes, curves: Mapping[str, Any], ylabel: str) -> None:
    """Label axes with curves over epochs."""
    axis.set_xlabel("epoch")
    axis.set_ylabel(ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if curves:
        # Names are names: no mathematics between dollars, and no hiding by an underscore.
        axis.legend(axis.get_lines(), [label.replace("$", r"\$") for label in curves])


def label(name: str) -> str:
    """Return the name of a column for people."""
    return name.replace("rmse", "RMSE").replace("_", " ")


def column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return `(epochs, values)` of one column, without gaps and numbers beyond `LARGEST`."""
    pairs = [(row["epoch"], row[name]) for row in rows if row[name] is not None]
    pairs = [p for p in pairs if not abs(p[1]) > LARGEST]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(path) as temporary, matplotlib.rc_context({"font.size": 9}):
        # No version or date inside, so that the same curves give the same file.
        figure.savefig(temporary, dpi=130, metadata={"Software": None})


def save_history(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw the loss and the score of one run, each for training and testing."""
    figure, axes = new_figure(columns=2)
    for axis, name in zip(axes, ("loss", score_of(rows))):
        curves = {"train": column(rows, name), "test": column(rows, f"val_{name}")}
        draw_curves(axis, curves, label(name))
    save(figure, path)
