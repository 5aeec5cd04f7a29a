"""The one look of all figures: sizes, fonts, and the colours of models.

Nothing here touches Matplotlib's settings, which belong to the program that imports tfnode.
"""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator

# Inches. The pages show a wide figure at some 950 pixels, where 9 points are 15 pixels.
NARROW, WIDE = 5.6, 8.0
DOTS_PER_INCH = 160
# Points.
TITLE, PANEL, LABEL, SMALL = 10.0, 9.0, 9.0, 8.0

# The palette of Okabe and Ito, which people with colour blindness can tell apart.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY, BLACK, GRAY = "#cc79a7", "#56b4e9", "#222222", "#999999"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BLACK, GRAY)
MODELS = {
    **{"ode": BLUE, "node": BLUE, "latent_ode": BLUE},
    **{"resnet": ORANGE, "rnn": ORANGE},
    **{"anode": GREEN, "rnode": PURPLE, "ode_tuned": SKY},
    **{"neural_cde": BLUE, "ode_rnn": GREEN, "gru": ORANGE, "cnn1d": PURPLE, "linear_series": SKY},
    **{"train": GRAY, "test": BLUE},
    **{"residual": RED, "no_block": GRAY, "ode_tuned_no_block": GRAY},
}


def colors(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name: that of a known model, else the next that is free.

    Args:
        names: Names of models, or paths of their runs, which end in such a name.
    """
    names = list(names)
    known = {name: MODELS.get(name.split(" ")[0].rpartition("/")[2]) for name in names}
    found: dict[str, str] = {}
    for name in names:
        color = known[name]
        if color is None or color in found.values():
            taken = {*found.values(), *known.values()}
            free = [c for c in CYCLE if c not in taken]
            color = free[0] if free else CYCLE[len(found) % len(CYCLE)]
        found[name] = color
    return found


def dress(figure: Figure) -> None:
    """Give the axes and the texts of a figure the common look."""
    title = getattr(figure, "_suptitle", None)
    if title is not None:
        title.set_fontsize(TITLE)
    legends = list(figure.legends)
    for axis in figure.axes:
        axis.title.set_fontsize(PANEL)
        axis.tick_params(which="both", labelsize=SMALL)
        for line in (axis.xaxis, axis.yaxis, getattr(axis, "zaxis", None)):
            if line is not None:
                line.label.set_fontsize(LABEL)
        legend = axis.get_legend()
        if legend is not None:
            legends.append(legend)
    for legend in legends:
        for text in legend.findobj(Text):
            text.set_fontsize(SMALL)


def percent(axis: Axes) -> None:
    """Show shares on the y axis in per cent."""
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def logarithmic(axis: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers, and more of them in two decades."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if high / low < 100:
        axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        for change in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            change(FuncFormatter(lambda value, _: f"{value:g}"))


def grid(axis: Axes) -> None:
    """Draw a faint grid, and no frame above and on the right."""
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
