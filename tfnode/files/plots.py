"""Figures of training curves."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfnode.files import style
from tfnode.files.history import score_of
from tfnode.files.whole import replacing

# Differences and multiples of larger numbers overflow in matplotlib.
LARGEST = 1e300
# Longer curves have no markers, which would hide the line.
MARKED = 20


def new_figure(
    title: str = "", columns: int = 1, height: float = 3.4, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `columns` axes side by side, drawn without a display.

    Args:
        title: Text above all axes: the data, the seeds.
        columns: Number of axes.
        height: In inches.
        sharey: Whether all axes have the same limits.

    Returns:
        `(figure, list of axes)`.
    """
    figure = blank_figure(style.NARROW if columns == 1 else style.WIDE, height, title)
    return figure, list(figure.subplots(1, columns, squeeze=False, sharey=sharey)[0])


def blank_figure(width: float, height: float, title: str = "") -> Figure:
    """Return a figure without axes, of a size in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(plain(title))
    return figure


Curve = tuple[Sequence[float], Sequence[float]]


def draw_curves(axis: Axes, curves: Mapping[str, Curve], ylabel: str) -> dict[str, Any]:
    """Draw `{label: (epochs, values)}` over epochs, and return `{label: line}` for a legend."""
    chosen = style.colors(curves)
    handles: dict[str, Any] = {}
    for name, (epochs, values) in curves.items():
        marker = "o" if len(epochs) <= MARKED else ""
        (handles[name],) = axis.plot(
            epochs, values, marker=marker, markersize=3.5, linewidth=1.6, color=chosen[name]
        )
    over_epochs(axis, ylabel)
    return handles


def draw_bands(axis: Axes, curves: Mapping[str, Sequence[Curve]], ylabel: str) -> dict[str, Any]:
    """Draw `{label: [(epochs, values), ...]}` over epochs, as mean and standard deviation.

    A band covers the epochs that all curves of its label have. A single epoch has an error bar.

    Returns:
        `{label: line}`, for a legend.
    """
    chosen = style.colors(curves)
    handles: dict[str, Any] = {}
    for name, runs in curves.items():
        epochs = sorted(set.intersection(*(set(epochs) for epochs, _ in runs)))
        values = np.array([[dict(zip(*run))[epoch] for epoch in epochs] for run in runs])
        handles[name] = draw_band(axis, epochs, values, chosen[name])
    over_epochs(axis, ylabel)
    return handles


def draw_band(axis: Axes, x: Sequence[float] | np.ndarray, values: np.ndarray, color: str) -> Any:
    """Draw the mean of curves and a band of their standard deviation; return the line of the mean.

    A single point has an error bar.

    Args:
        axis: The axes.
        x: `(points,)`, that of all curves.
        values: `(curves, points)`.
        color: Of line and band.
    """
    mean = values.mean(axis=0)
    look: dict[str, Any] = {"color": color, "linewidth": 1.6}
    (line,) = axis.plot(x, mean, marker="o" if len(x) == 1 else "", markersize=4, **look)
    if len(values) > 1:
        sd = values.std(axis=0, ddof=1)
        if len(x) == 1:
            axis.vlines(x, mean - sd, mean + sd, **look)
        else:
            axis.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.18, linewidth=0)
    return line


def over_epochs(axis: Axes, ylabel: str) -> None:
    """Label axes with curves over epochs: losses are logarithmic, accuracies in per cent."""
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    longest = max((float(np.max(x)) for x in map(_epochs, axis.get_lines()) if len(x)), default=1.0)
    if longest <= 1.0:
        axis.set_xlim(0.5, 1.5)
        axis.set_xticks([1])
    drawn = [np.asarray(line.get_ydata(), float) for line in axis.get_lines()]
    drawn = [values for values in drawn if values.size]
    if "loss" in ylabel and drawn and all((values > 0).all() for values in drawn):
        style.logarithmic(axis)
    if "accuracy" in ylabel and "%" not in ylabel:
        style.percent(axis)
        ylabel += ", %"
    axis.set_ylabel(ylabel)
    style.grid(axis)


def _epochs(line: Any) -> np.ndarray:
    return np.asarray(line.get_xdata(), float)


def legend(
    figure: Figure, handles: Mapping[str, Any], title: str | None = None, columns: int = 0
) -> None:
    """Write one legend where it hides no data: right of all axes, or below them in columns."""
    if handles:
        names = [plain(name) for name in handles]
        place: dict[str, Any] = {"loc": "outside right upper"}
        if columns:
            place = {"loc": "outside lower center", "ncols": columns}
        figure.legend(list(handles.values()), names, title=title, frameon=False, **place)


def same_limits(axes: Sequence[Axes]) -> None:
    """Give axes of the same quantity the same limits, so that they can be compared."""
    if len({axis.get_yscale() for axis in axes}) > 1:
        return  # A limit of one may be no number of the other.
    ends = np.array([axis.get_ylim() for axis in axes])
    for axis in axes:
        axis.set_ylim(ends.min(), ends.max())


def plain(text: str) -> str:
    """Return text that Matplotlib draws as it is: names of files may hold dollars, or any bytes."""
    return text.encode(errors="replace").decode().replace("$", r"\$")


def origin(data: Iterable[Any], seeds: Iterable[Any]) -> str:
    """Return the data and the seeds of a figure for its title, without those unknown."""
    parts = list(dict.fromkeys(str(name) for name in data if name is not None))
    numbers = list(dict.fromkeys(seed for seed in seeds if seed is not None))
    if numbers:
        text = ", ".join(map(str, numbers))
        parts.append(f"seed {text}" if len(numbers) == 1 else f"seeds {text}")
    return ", ".join(parts)


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
    style.dress(figure)
    with replacing(path) as temporary:
        # No version or date inside, so that the same curves give the same file.
        figure.savefig(temporary, dpi=style.DOTS_PER_INCH, metadata={"Software": None})


def save_history(
    rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = ""
) -> None:
    """Draw the loss and the score of one run, each for training and testing."""
    figure, axes = new_figure(title, columns=2, height=3.0)
    handles: dict[str, Any] = {}
    for axis, name in zip(axes, ("loss", score_of(rows))):
        curves = {"train": column(rows, name), "test": column(rows, f"val_{name}")}
        handles |= draw_curves(axis, curves, label(name))
    legend(figure, handles)
    save(figure, path)
