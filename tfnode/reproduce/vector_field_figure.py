"""The figure of `vector_field`, from arrays and functions alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tfnode.files import plots

if TYPE_CHECKING:
    from tfnode.reproduce.vector_field import Fit


def figure(
    problem: str,
    drawn: tuple["Fit", np.ndarray, np.ndarray],
    all_times: np.ndarray,
    true_field: Callable[[np.ndarray], np.ndarray],
) -> Figure:
    """Draw samples, solution and field of the perceptrons."""
    fitted, truth, samples = drawn
    seen, end = len(samples), all_times[len(samples) - 1]
    drawing, (plane, time, field) = plots.new_figure(columns=3, width=4.2, height=3.9)
    plane.plot(*samples.T, ".", color="0.7", markersize=2.5, label="noisy samples")
    plane.plot(*truth[:seen].T, color="black", linewidth=1.2, label="truth")
    plane.plot(*fitted.states[:seen].T, "--", color="tab:red", linewidth=1.2, label="learned")
    for i, name in enumerate(("first", "second")):
        label = "truth" if i == 0 else None
        time.plot(all_times, truth[:, i], color="black", linewidth=1.0, label=label)
        color = ("tab:red", "tab:blue")[i]
        time.plot(all_times, fitted.states[:, i], "--", color=color, label=f"learned, {name}")
    time.axvspan(0.0, end, color="0.93", zorder=0, label="sampled")
    time.set_xlabel("time")
    time.set_ylabel("state")

    grid = np.linspace(-2.1, 2.1, 15)
    states = np.stack(np.meshgrid(grid, grid), axis=-1)
    exact = true_field(states)
    learned = fitted.field(states.reshape(-1, 2)).reshape(states.shape)
    # Directions alone: the cubic field is hundreds of times longer outside than inside.
    style: dict[str, Any] = {"angles": "xy", "pivot": "mid", "scale": 24, "headwidth": 4}
    for values, color, width, label in (
        (exact, "0.6", 0.008, "truth"),
        (learned, "tab:red", 0.004, "learned"),
    ):
        size = np.maximum(np.linalg.norm(values, axis=-1), 1e-9)
        arrows = values / size[..., None]
        x, y = np.moveaxis(states, -1, 0)
        u, v = np.moveaxis(arrows, -1, 0)
        field.quiver(x, y, u, v, color=color, width=width, label=label, **style)
    field.plot(*truth[:seen].T, color="tab:blue", linewidth=0.7, alpha=0.6, label="trajectory")
    for axis, title in (
        (plane, f"{problem}: trajectory, t < {end:g}"),
        (time, "solution, and beyond the samples"),
        (field, "direction of the field"),
    ):
        axis.set_title(title)
        axis.legend(loc="upper right", fontsize=7, framealpha=0.9)
    for axis in (plane, field):
        axis.set_aspect("equal")
        axis.set_xlabel("first state")
        axis.set_ylabel("second state")
    return drawing
