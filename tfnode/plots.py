"""Figures of training curves. Imports no TensorFlow."""

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfnode.history_file import score_of
from tfnode.run_dir import replacing

# Differences and multiples of larger numbers overflow in matplotlib.
LARGEST = 1e300


def new_figure(columns=1, width=5.0, height=3.6):
    """A figure with `columns` axes side by side, drawn without a display.

    Returns:
        `(figure, list of axes)`.
    """
    figure = blank_figure(width * columns, height)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def blank_figure(width, height):
    """A figure without axes, of a size in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_curves(axis, curves, ylabel):
    """Draws `{label: (epochs, values)}` over epochs."""
    for epochs, values in curves.values():
        axis.plot(epochs, values, marker="o", markersize=3)
    _over_epochs(axis, curves, ylabel)


def draw_bands(axis, curves, ylabel):
    """Draws `{label: [(epochs, values), ...]}` over epochs, as mean and standard deviation.

    Over the epochs that all curves of a label have.
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


def _over_epochs(axis, curves, ylabel):
    """What axes have in common whose curves are over epochs."""
    axis.set_xlabel("epoch")
    axis.set_ylabel(ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if curves:
        # Names are names: no mathematics between dollars, and no hiding by an underscore.
        axis.legend(axis.get_lines(), [label.replace("$", r"\$") for label in curves])


def label(name):
    """What figures and tables call a column or a figure."""
    return name.replace("rmse", "RMSE").replace("_", " ")


def column(rows, name):
    """`(epochs, values)` of one column of a history, without its gaps and what cannot be drawn."""
    pairs = [(row["epoch"], row[name]) for row in rows if row[name] is not None]
    pairs = [p for p in pairs if not abs(p[1]) > LARGEST]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def save(figure, path):
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as temporary, matplotlib.rc_context({"font.size": 9}):
        # No version or date inside, so that the same curves give the same file.
        figure.savefig(temporary, dpi=130, metadata={"Software": None})


def save_history(rows, path):
    """The two figures of one run: loss and score, train and test."""
    figure, axes = new_figure(columns=2)
    for axis, name in zip(axes, ("loss", score_of(rows))):
        curves = {"train": column(rows, name), "test": column(rows, f"val_{name}")}
        draw_curves(axis, curves, label(name))
    save(figure, path)
