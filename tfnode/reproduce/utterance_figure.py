"""The figure of `tfnode.reproduce.utterance`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfnode.files import plots, style

CHANNELS = (0, 1, 2)
UNITS = 8


def figure(
    times: np.ndarray,
    values: np.ndarray,
    every: np.ndarray,
    readings: Mapping[str, Any],
    speaker: int,
) -> Any:
    """Draw an utterance, and the states and the probabilities of each model, over time.

    Args:
        times: `(n,)`, those of the points.
        values: `(n, channels)`, NaN where they are missing.
        every: `(n, channels)`, with the values that are missing.
        readings: Name of a model to its `Reading`.
        speaker: The right one, from 0.
    """
    observed = ~np.isnan(values).any(1)
    missing = f"{(~observed).sum()} of {len(times)} points (hollow) missing"
    title = f"an utterance of speaker {speaker + 1}, {missing}"
    result = plots.blank_figure(style.WIDE, 6.4, title)
    axes = result.subplots(3, len(readings), sharex=True, sharey="row", squeeze=False)
    for (top, middle, bottom), (name, reading) in zip(axes.T, readings.items()):
        for channel, color in zip(CHANNELS, style.CYCLE):
            if name == "neural_cde":  # The other model reads the points alone.
                top.plot(reading.times, reading.path[:, channel], color=color, linewidth=1.2)
            y = every[:, channel]
            top.plot(times[observed], y[observed], "o", color=color, markersize=4.5)
            hollow = {"markerfacecolor": "none", "markersize": 3.5, "alpha": 0.5}
            top.plot(times[~observed], y[~observed], "o", color=color, **hollow)
        middle.plot(reading.times, reading.states[:, :UNITS], linewidth=1.0)
        top.set_title(name)
        others = np.delete(reading.probabilities, speaker, axis=1)
        bottom.plot(reading.times, 100 * others, color=style.GRAY, linewidth=0.9)
        bottom.plot(
            reading.times, 100 * reading.probabilities[:, speaker], color=style.BLUE, linewidth=1.8
        )
        for axis in (top, middle, bottom):
            for t in times[observed]:
                axis.axvline(t, color="0.9", linewidth=0.8, zorder=0)
            style.grid(axis)
        bottom.set_xlabel("time, 0.1 s")
    labels = (
        "three of 12 channels",
        f"{UNITS} of the hidden units",
        "probability, %; blue: the speaker",
    )
    for axis, text in zip(axes[:, 0], labels):
        axis.set_ylabel(text)
    return result
