"""The figures of `augmentation`, from arrays and functions alone. Imports no TensorFlow."""

from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tfnode.files import plots, style

TIMES = 41
COLORS = {-1.0: style.BLUE, 1.0: style.ORANGE}
MODELS = (style.MODELS["node"], style.MODELS["anode"])
CURVES = {
    "loss": "training loss (Huber)",
    "test_accuracy": "test accuracy, %",
    "largest_error": "largest test error",
    "nfe_forward": "NFE, forward",
}
FIELD = {"color": "0.6", "width": 0.003, "zorder": 0}


def name(augment: int) -> str:
    """Return the name of a model."""
    return f"ANODE (+{augment})" if augment else "NODE"


def groups(runs: list[Any]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return the runs of each problem and model: `{(problem, augment): [run, ...]}`."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one in runs:
        found.setdefault((one["problem"], one["augment"]), []).append(one)
    return found


def starts(problem: str, x: Any) -> np.ndarray:
    """Return the points whose paths are drawn, of those to train on."""
    if problem == "crossing":
        return np.array([[-1.0], [1.0]], np.float32)
    disc = len(x) // 4
    return np.concatenate([x[:disc][:60], x[disc:][:180]])


def grid(paths: np.ndarray) -> Any:
    """Return the places of the field around paths: a list of pairs of a time and states.

    In one dimension it is drawn over time, otherwise at time 0 in the plane of the first two
    components, where the others are 0.
    """
    low, high = paths.min(axis=(0, 1))[:2], paths.max(axis=(0, 1))[:2]
    margin = 0.25 * (high - low).max()
    ticks = [np.linspace(*ends, 15) for ends in zip(low - margin, high + margin)]
    if paths.shape[-1] == 1:
        states = ticks[0][:, None].astype("float32")
        return [(np.float32(t), states) for t in np.linspace(0.0, 1.0, 15)]
    x, y = (g.ravel() for g in np.meshgrid(*ticks))
    states = np.zeros((x.size, paths.shape[-1]), np.float32)
    states[:, 0], states[:, 1] = x, y
    return [(np.float32(0.0), states)]


def crossing(plain: Any, augmented: Any) -> Any:
    """Draw both models before and after training: x over time, and x over the extra dimension.

    Args:
        plain, augmented: `{"before": flow, "after": flow}`, see `augmentation.flow`.
    """
    figure = plots.blank_figure(style.WIDE, 5.2, "crossing map, before and after training")
    times = np.linspace(0.0, 1.0, TIMES)
    both = [model[when]["paths"][..., 0] for model in (plain, augmented) for when in model]
    limit = 1.25 * max(1.0, max(np.abs(path).max() for path in both))
    for row, when in zip(figure.subplots(2, 3), ("before", "after")):
        flows = (plain[when], augmented[when])
        _label(row[0], f"NODE, {when}", "time t", "state x")
        _label(row[1], f"ANODE, {when}", "time t", "state x")
        for axis, flow in zip(row, flows):
            path = flow["paths"][..., 0]
            for i, color in enumerate(COLORS.values()):
                axis.plot(times, path[:, i], color=color, linewidth=2)
                axis.plot(0.0, path[0, i], "o", color=color, clip_on=False)
                axis.plot(1.0, -path[0, i], "x", color=color, markersize=9, clip_on=False)
            axis.set(xlim=(0.0, 1.0), ylim=(-limit, limit))
        for (t, states), slope in zip(plain[when]["grid"], plain[when]["field"]):
            ones = np.ones(len(states))
            row[0].quiver(t * ones, states[:, 0], ones, slope[:, 0], angles="xy", **FIELD)
        _label(row[2], f"ANODE, {when}: field at t = 0", "state x", "extra dimension a")
        _field(row[2], augmented[when])
        paths = augmented[when]["paths"]
        for i, color in enumerate(COLORS.values()):
            row[2].plot(*paths[:, i, :2].T, color=color, linewidth=2)
            row[2].plot(*paths[0, i, :2], "o", color=color)
            row[2].axvline(-paths[0, i, 0], color=color, linestyle=":", linewidth=1)
    handles = [
        Line2D([], [], color=c, marker="o", label=f"path from x = {-s:+.0f}, target {s:+.0f}")
        for s, c in zip((1.0, -1.0), COLORS.values())
    ]
    handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="target at t = 1"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def nested(plain: Any, augmented: Any) -> Any:
    """Draw both models: the flow before training, and the field, paths and last states after it.

    Args:
        plain, augmented: See `crossing`.
    """
    figure = plots.blank_figure(
        style.WIDE, 4.7, "nested circles: a plain Neural ODE and an augmented one"
    )
    titles = ("untrained", "field at t = 0", "paths", "states at t = 1")
    seen = [model[when]["grid"][0][1] for model in (plain, augmented) for when in model]
    limit = max(np.abs(states[:, :2]).max() for states in seen)
    for row, (model, label) in enumerate(((plain, "NODE"), (augmented, "ANODE"))):
        for column, title in enumerate(titles):
            flow = model["after" if column else "before"]
            starts = flow["paths"][0]
            colors = [COLORS[s] for s in np.where(np.hypot(*starts[:, :2].T) < 0.75, -1.0, 1.0)]
            # The field and the untrained paths are drawn in the plane of the data.
            space = min(starts.shape[-1], 3) if column > 1 else 2
            projection = {"projection": "3d"} if space == 3 else {}
            axis = figure.add_subplot(2, 4, 4 * row + column + 1, **projection)
            _label(axis, f"{label}: {title}", "$x_1$", "$x_2$")
            if column < 2:
                _field(axis, flow)
            if space == 2:
                axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            if column == 1:
                axis.scatter(starts[:, 0], starts[:, 1], c=colors, s=6)
            else:
                _paths(axis, flow["paths"][..., :space], colors, lines=column != 3)
            if column == 3:
                _boundary(axis, flow, space)
            if space == 3:
                _look_along_the_boundary(axis, flow)
    handles = [
        Line2D([], [], color=c, marker="o", linestyle="", label=f"target {s:+.0f}")
        for s, c in COLORS.items()
    ]
    handles.append(Line2D([], [], color="0.2", linestyle="--", label="read-out = 0"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _look_along_the_boundary(axis: Any, flow: Any) -> None:
    normal = flow["readout"][0][:2, 0]
    axis.view_init(elev=12, azim=np.degrees(np.arctan2(normal[1], normal[0])) + 90)
    axis.set_zlabel("a")
    for line in (axis.xaxis, axis.yaxis, axis.zaxis):
        line.labelpad = -8
    axis.tick_params(pad=-3)
    axis.set_box_aspect(None, zoom=1.1)
    for line in (axis.xaxis, axis.yaxis, axis.zaxis):
        line.set_major_locator(MaxNLocator(3))


def _field(axis: Any, flow: Any) -> None:
    ((_, states),), (velocities,) = flow["grid"], flow["field"]
    axis.quiver(*states[:, :2].T, *velocities[:, :2].T, angles="xy", **FIELD)


def _paths(axis: Any, paths: np.ndarray, colors: Any, lines: bool) -> None:
    """Draw the last states, and the way there."""
    if lines:
        for i, color in enumerate(colors):
            axis.plot(*paths[:, i].T, color=color, linewidth=0.6, alpha=0.5)
    axis.scatter(*paths[-1].T, c=colors, s=6)


def _boundary(axis: Any, flow: Any, space: int) -> None:
    """Draw where the read-out is 0: a line, or a plane, in at most three dimensions."""
    weights, bias = flow["readout"]
    ends = flow["paths"][-1]
    if len(weights) != space:
        return
    low, high = ends.min(axis=0), ends.max(axis=0)
    # The equation is solved for the component that the read-out depends on most.
    last = int(np.abs(weights[:, 0]).argmax())
    others = [i for i in range(space) if i != last]
    grid = np.meshgrid(*(np.linspace(low[i], high[i], 25) for i in others))
    rest = sum(weights[i, 0] * g for i, g in zip(others, grid))
    solved = -(bias[0] + rest) / weights[last, 0]
    inside = (solved >= low[last]) & (solved <= high[last])
    surface: list[Any] = [None] * space
    surface[last] = np.where(inside, solved, np.nan)
    for i, g in zip(others, grid):
        surface[i] = g
    if space == 2:
        axis.plot(*surface, color="0.2", linestyle="--", linewidth=1)
    else:
        axis.plot_surface(*surface, color="0.5", alpha=0.3)


def training(runs: list[Any]) -> Any:
    """Draw the curves over the epochs of both problems, each seed and their mean."""
    seeds = [one["seed"] for one in runs]
    title = plots.origin(["crossing map (above) and nested circles (below)"], seeds)
    figure = plots.blank_figure(style.WIDE, 4.4, title)
    axes = figure.subplots(2, len(CURVES), sharex=True)
    handles: dict[str, Any] = {}
    for (problem, augment), group in groups(runs).items():
        row = axes[int(problem == "nested")]
        for axis, (key, label) in zip(row, CURVES.items()):
            values = np.array([one[key] for one in group])  # (seeds, epochs)
            epochs = np.arange(1, values.shape[1] + 1)
            color = MODELS[int(augment > 0)]
            axis.plot(epochs, values.T, linewidth=0.6, alpha=0.5, color=color)
            (handles[name(augment)],) = axis.plot(
                epochs, values.mean(axis=0), linewidth=1.8, color=color
            )
            plots.over_epochs(axis, "")
            axis.set_title(label)
            axis.set_ylabel(problem if key == "loss" else "")
            axis.set_yscale("log" if key == "loss" else "linear")
            if key == "test_accuracy":
                style.percent(axis)
                axis.set_ylim(0.0, 1.03)
    for axis in axes[:, 2]:
        line = axis.axhline(1.0, color="0.3", linestyle=":")
        handles["least error of any NODE"] = line
        axis.set_ylim(bottom=0.0)
    for axis in axes[0]:
        axis.set_xlabel("")
    plots.legend(figure, handles, columns=len(handles))
    return figure


def _label(axis: Any, title: str, x: str, y: str) -> None:
    axis.set(title=title, xlabel=x, ylabel=y)
