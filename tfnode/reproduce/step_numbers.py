"""Is what `ode_tuned` learned an ODE? Its accuracy by the number of steps at test time.

Trains `configs/ode_tuned.py` with one and with four steps of the midpoint rule, each in a process
of its own, unless its run is in the folder already. Then the trained weights are evaluated with
other numbers of steps. The solution of an ODE hardly changes with them; what is made of a few steps
that depend on each other does, as Ott, Katiyar, Hennig, Tiemann, *ResNet after all?* (2021), show.
Averages of batch normalisation between the times of training are interpolated.
"""

import argparse
import copy
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfnode.configs import ode_tuned
from tfnode.files import plots, style
from tfnode.lab import runner
from tfnode.lab.settings import Settings
from tfnode.reproduce import command
from tfnode.runs.contents import MODEL
from tfnode.runs.files import make_folder

TRAINED, TESTED = (1, 4), (1, 2, 3, 4, 6, 8, 12, 16)


def run(options: argparse.Namespace) -> command.Results:
    """Train the missing runs, and evaluate all with every number of steps."""
    from tfnode import data

    runs = pathlib.Path(options.out, "runs")
    make_folder(runs)
    ones = []
    for seed in range(options.seed, options.seed + options.seeds):
        for steps in TRAINED:
            settings = _settings(options, steps, seed)
            ones.append(runner.Experiment(runs / f"{steps}_steps-{seed}", settings))
    outcomes = runner.run(one for one in ones if one.state() != runner.FINISHED)
    for one, outcome in outcomes.items():
        if outcome != runner.FINISHED:
            raise ValueError(f"{one.path}: {outcome}")
    dataset = data.load(options.dataset)
    values: dict[str, dict[str, list[list[float]]]] = {
        str(steps): {"accuracy": [], "loss": []} for steps in TRAINED
    }
    for one in ones:
        scores = evaluated(one, dataset)
        for name, found in values[str(one.settings.model.num_steps)].items():
            found.append([score[name] for score in scores])
    rows = [
        [name, *(command.spread([100 * x for x in xs], 2) for xs in zip(*found["accuracy"]))]
        for name, found in values.items()
    ]
    columns = ["steps in training", *(f"{steps} in testing" for steps in TESTED)]
    results = {"tested": list(TESTED), "trained": values}
    picture = figure(values, plots.origin([dataset.name], [one.settings.seed for one in ones]))
    return command.Results(results, columns, rows, {"step_numbers": picture})


def _settings(options: argparse.Namespace, steps: int, seed: int) -> Settings:
    """Return the settings of a run with a number of steps."""
    settings = ode_tuned.get_config()
    settings.precision, settings.dataset, settings.seed = "float32", options.dataset, seed
    settings.epochs = 1 if options.quick else options.epochs
    settings.model.num_steps = steps
    if options.quick:
        settings.model.filters = 3
    return settings


def evaluated(one: runner.Experiment, dataset: Any) -> list[dict[str, float]]:
    """Return loss and accuracy of a trained run on test images, solved with each of `TESTED`."""
    import keras

    from tfnode.lab.build import Pixels, compiled_model

    weights = keras.models.load_model(one.path / MODEL, compile=False).get_weights()
    settings, dataset, scores = copy.deepcopy(one.settings), Pixels(*dataset), []
    for settings.model.num_steps in TESTED:
        model = compiled_model(settings, dataset)
        model.set_weights(weights)
        batches = dataset.test_batches(settings.batch_size)
        scores.append(model.evaluate(batches, verbose=0, return_dict=True))
    return scores


def figure(values: dict[str, dict[str, list[list[float]]]], title: str) -> Any:
    """Draw the accuracy by the steps in testing: mean and standard deviation over seeds."""
    result, (axis,) = plots.new_figure(title)
    handles: dict[str, Any] = {}
    for name, color in style.colors(list(values)).items():
        accuracy = np.array(values[name]["accuracy"])  # (seeds, numbers of steps)
        handles[f"trained with {name}"] = plots.draw_band(axis, TESTED, accuracy, color)
    axis.set(xlabel="steps of the midpoint rule in testing", xscale="log", ylabel="accuracy, %")
    axis.set_xticks(TESTED, [str(steps) for steps in TESTED])
    axis.minorticks_off()
    style.percent(axis)
    style.grid(axis)
    plots.legend(result, handles)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("step_numbers", __doc__)
    add = parser.add_argument
    add("--seeds", type=command.at_least(1), default=1, help="how many seeds (%(default)s)")
    add("--epochs", type=command.at_least(1), default=10, help="of each run (%(default)s)")
    add("--dataset", choices=("mnist", "digits"), default="mnist", help="(%(default)s)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
