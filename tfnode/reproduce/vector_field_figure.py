"""The figure of `vector_field`, from arrays and functions alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tfnode.files import plots, style

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
    title = f"{problem} field, learned from one noisy trajectory up to t = {end:g}"
    drawing = plots.blank_figure(style.WIDE, 5.6, title)
    grid_of_axes = drawing.add_gridspec(2, 2, height_ratios=(3, 2))
    plane, field = (drawing.add_subplot(grid_of_axes[0, i]) for i in range(2))
    time = drawing.add_subplot(grid_of_axes[1, :])
    plane.plot(*samples.T, ".", color="0.7", markersize=2.5, label="noisy samples")
    plane.plot(*truth[:seen].T, color="black", linewidth=1.2, label="truth")
    plane.plot(*fitted.states[:seen].T, "--", color=style.RED, linewidth=1.2, label="learned")
    for i, name in enumerate(("first", "second")):
        label = "truth" if i == 0 else None
        time.plot(all_times, truth[:, i], color="black", linewidth=1.0, label=label)
        color = (style.RED, style.BLUE)[i]
        time.plot(all_times, fitted.states[:, i], "--", color=color, label=f"learned, {name}")
    time.axvspan(0.0, end, color="0.93", zorder=0, label="sampled")
    time.set_xlabel("time")
    time.set_ylabel("state")

    grid = np.linspace(-2.1, 2.1, 15)
    states = np.stack(np.meshgrid(grid, grid), axis=-1)
    exact = true_field(states)
    learned = fitted.field(states.reshape(-1, 2)).reshape(states.shape)
    # Directions alone: the cubic field is hundreds of times longer outside than inside.
    look: dict[str, Any] = {"angles": "xy", "pivot": "mid", "scale": 24, "headwidth": 4}
    for values, color, width, label in (
        (exact, "0.6", 0.008, "truth"),
        (learned, style.RED, 0.004, "learned"),
    ):
        size = np.maximum(np.linalg.norm(values, axis=-1), 1e-9)
        arrows = values / size[..., None]
        x, y = np.moveaxis(states, -1, 0)
        u, v = np.moveaxis(arrows, -1, 0)
        field.quiver(x, y, u, v, color=color, width=width, label=label, **look)
    field.plot(*truth[:seen].T, color=style.BLUE, linewidth=0.7, alpha=0.6, label="trajectory")
    time.set_title("over time, and beyond the samples")
    time.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    style.grid(time)
    for axis, name in ((plane, "trajectory"), (field, "direction of the field")):
        axis.set(title=name, xlabel="first state", ylabel="second state", aspect="equal")
        axis.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)
    return drawing
