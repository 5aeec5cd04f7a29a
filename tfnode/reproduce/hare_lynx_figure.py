"""The figure of `tfnode.reproduce.hare_lynx`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfnode.files import plots, style

ANIMALS = ("hares", "lynxes")
COLORS = (style.BLUE, style.RED)
GRID = 15


def figure(
    years: np.ndarray,
    fitted: int,
    logs: np.ndarray,
    models: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
) -> Any:
    """Draw the data, and the fit and the forecast of each model, and its phase portrait.

    Lines are means over seeds, bands their standard deviation. Fields are those of the first seed.

    Args:
        years: `(years,)`.
        fitted: How many of them were fitted.
        logs: The data, logarithms over the means, `(years, 2)`.
        models: Name to the `Trajectory` of each seed.
        seeds: The seeds.
    """
    result = plots.blank_figure(style.WIDE, 5.6, plots.origin(["hare and lynx"], seeds))
    above = [f"series {animal}" for animal in ANIMALS]
    names = list(models)
    layout: Any = [*([place, place] for place in above), names]
    axes = result.subplot_mosaic(layout)
    handles: dict[str, Any] = {}
    for i, place in enumerate(above):
        axis = axes[place]
        (handles["data"],) = axis.plot(years, logs[:, i], ".", color="0.2", markersize=3.5)
        for color, (name, found) in zip(COLORS, models.items()):
            states = np.array([one.states[:, i] for one in found])
            handles[name] = plots.draw_band(axis, years, states, color)
        axis.axvspan(years[fitted] - 0.5, years[-1] + 0.5, color="0.93", zorder=0)
        axis.set(xlim=(years[0] - 0.5, years[-1] + 0.5), ylabel=f"ln {ANIMALS[i]} / mean")
        style.grid(axis)
    top = axes[above[0]]
    top.text(years[fitted], 1.03, "forecast", transform=top.get_xaxis_transform(), fontsize=8)
    low, high = logs.min(axis=0) - 0.3, logs.max(axis=0) + 0.3
    mesh = np.stack(np.meshgrid(*np.linspace(low, high, GRID).T), axis=-1)
    for color, (name, found) in zip(COLORS, models.items()):
        axis, one = axes[name], found[0]
        slopes = one.field(mesh.reshape(-1, 2)).reshape(mesh.shape)
        slopes = slopes / np.linalg.norm(slopes, axis=-1, keepdims=True)
        axis.quiver(mesh[..., 0], mesh[..., 1], slopes[..., 0], slopes[..., 1], color="0.6")
        axis.plot(*logs.T, ".", color="0.2", markersize=3.5)
        axis.plot(*one.path.T, color=color, linewidth=1.4)
        axis.set(title=name, xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=ANIMALS[0])
    axes[names[0]].set_ylabel(ANIMALS[1])
    plots.legend(result, handles, columns=3)
    return result
