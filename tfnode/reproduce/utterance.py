"""One utterance of the Japanese vowels, as a neural CDE and an ODE-RNN read it.

Trains both models of `configs/` on utterances of which points are missing, each in a process of its
own, unless its run is in the folder already. Then it solves one utterance of the test set with
many times between the points: the observed values and the path through them, the hidden state, and
the probabilities of the speakers that the last layer makes of that state at every time.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfnode.configs import neural_cde, ode_rnn
from tfnode.lab import runner
from tfnode.lab.settings import SeriesSettings, Settings
from tfnode.reproduce import command
from tfnode.reproduce.utterance_figure import figure
from tfnode.runs import contents
from tfnode.runs.files import make_folder

CONFIGS = {"neural_cde": neural_cde, "ode_rnn": ode_rnn}
DATASET = "japanese_vowels"
BETWEEN = 8  # Steps of a solver from one point of the data to the next.


class Reading(NamedTuple):
    """An utterance as a model reads it.

    Attributes:
        times: `(times,)`, those of the points and others between them.
        path: `(times, channels)`, the path through the observed values.
        states: `(times, units)`.
        probabilities: `(times, speakers)`.
    """

    times: np.ndarray
    path: np.ndarray
    states: np.ndarray
    probabilities: np.ndarray


def run(options: argparse.Namespace) -> command.Results:
    """Train the models, and have them read the utterance."""
    from tfnode import data

    dataset = data.load(DATASET, missing=options.missing)
    if not options.utterance < len(dataset.y_test):
        raise ValueError(
            f"--utterance must be below {len(dataset.y_test)}. Received: {options.utterance}"
        )
    values, times = dataset.inputs(dataset.x_test[options.utterance])
    points = np.concatenate([[True], np.diff(times) > 0])
    values, times = values[points], times[points]
    speaker = int(dataset.y_test[options.utterance])
    every = as_scaled(data.load(DATASET).x_test[options.utterance, points, :-1], values)
    readings, rows = {}, []
    for name in CONFIGS:
        reading = readings[name] = read(_trained(options, name), values, times)
        last = reading.probabilities[-1]
        first = first_right(reading, speaker)
        row = [name, str(int(last.argmax()) + 1), f"{100 * last[speaker]:.1f}"]
        rows.append([*row, "-" if first is None else f"{first:.2f}"])
    found: dict[str, Any] = {"speaker": speaker + 1, "times": times, "values": every}
    found["observed"] = ~np.isnan(values).any(1)
    picture = figure(times, values, every, readings, speaker)
    found["models"] = {name: reading._asdict() for name, reading in readings.items()}
    columns = ["model", "speaker found", f"probability of {speaker + 1}, %", "found from, 0.1 s"]
    return command.Results(_plain(found), columns, rows, {"utterance": picture})


def _trained(options: argparse.Namespace, name: str) -> Any:
    """Return the trained model of a config."""
    import keras

    settings: Settings = CONFIGS[name].get_config()
    settings.seed = options.seed
    settings.data = SeriesSettings(missing=options.missing)
    if options.quick:
        settings.epochs = 1
    runs = pathlib.Path(options.out, "runs")
    make_folder(runs)
    one = runner.Experiment(runs / name, settings)
    if one.state() != runner.FINISHED:
        outcome = runner.run([one])[one]
        if outcome != runner.FINISHED:
            raise ValueError(f"{name}: {outcome}")
    return keras.models.load_model(one.path / contents.MODEL, compile=False)


def read(model: Any, values: np.ndarray, times: np.ndarray) -> Reading:
    """Return one series as a model reads it, solved with more times than it has.

    At the times between nothing is observed, so that they change neither path nor jumps.

    Args:
        model: A model of `tfnode.models` with a layer of its name.
        values: `(n, channels)`, NaN where they are missing.
        times: `(n,)`.
    """
    import tensorflow as tf

    from tfnode.interpolation import Hermite, Linear

    given = model.get_layer(model.name)
    layer = type(given).from_config({**given.get_config(), "return_sequences": True})
    fine = np.interp(np.arange((len(times) - 1) * BETWEEN + 1) / BETWEEN, range(len(times)), times)
    fine = fine.astype(np.float32)
    inputs = np.full((len(fine), values.shape[1]), np.nan, np.float32)
    inputs[::BETWEEN] = values
    layer.build((1, *inputs.shape), (1, *fine.shape))
    layer.set_weights(given.get_weights())
    states = layer(inputs[np.newaxis], times=fine[np.newaxis])[0]
    probabilities = tf.nn.softmax(model.get_layer("logits")(states))
    kind = Hermite if getattr(layer, "path_name", "") == "hermite" else Linear
    path = kind(fine, inputs)(fine)
    return Reading(fine, *(np.asarray(x, np.float64) for x in (path, states, probabilities)))


def first_right(reading: Reading, speaker: int) -> float | None:
    """Return the time from which on the speaker is the most probable one, `None` for no time."""
    right = reading.probabilities.argmax(1) == speaker
    if not right[-1]:
        return None
    wrong = np.flatnonzero(~right)
    return float(reading.times[wrong[-1] + 1 if len(wrong) else 0])


def as_scaled(every: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return all values of an utterance in the scale of those that are left.

    Channels are standardised by the points that are left. Shift and scale are those of a straight
    line through the values in both scales.

    Args:
        every: `(n, channels)`, without missing values.
        values: `(n, channels)`, some of them NaN.
    """
    result = np.empty(every.shape)
    for i, (x, y) in enumerate(zip(every.T.astype(float), values.T.astype(float))):
        seen = ~np.isnan(y)
        slope, shift = np.polyfit(x[seen], y[seen], 1) if seen.sum() > 1 else (1.0, 0.0)
        result[:, i] = slope * x + shift
    return result


def _plain(found: Any) -> Any:
    """Return nested arrays as lists of numbers with four digits behind the point."""
    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    if isinstance(found, np.ndarray):
        return (found if found.dtype == bool else np.round(found.astype(float), 4)).tolist()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("utterance", __doc__)
    add = parser.add_argument
    add("--missing", type=float, default=0.7, help="rate of missing points (%(default)s)")
    add("--utterance", type=command.at_least(0), default=0, help="of the test set (%(default)s)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
