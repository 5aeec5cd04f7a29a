"""Accuracy by missing points: models of ODEs beside others, on time series that were measured.

Trains every model of `configs/series_study.py` at every rate of missing points, in processes of
their own, each run in a folder below `--out` unless it is there already. A run that was broken off
goes on. The accuracy is that on the test set after the last epoch. NFE are the evaluations of the
field on the way forward through a series and on the way back, counted by the solver.
"""

import argparse
import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfnode.files import plots, style
from tfnode.lab.study import Study
from tfnode.lab.study_results import RESULTS
from tfnode.reproduce import command
from tfnode.runs import files

CONFIG = "configs/series_study.py"
DATASETS = ("japanese_vowels", "basic_motions")
QUICK = ("linear_series_0", "linear_series_70")
CONSTANT = "most frequent class"


def run(options: argparse.Namespace) -> command.Results:
    """Train the missing runs, and compare."""
    datasets = options.datasets
    if options.quick:
        options.seeds, datasets = 1, DATASETS[:1]
    values, rows = {}, []
    for dataset in datasets:
        values[dataset] = _study(options, dataset)
        rows += table(dataset, values[dataset])
    rates = sorted({one["missing"] for one in values[datasets[0]]["models"]})
    columns = ["data", "model", "parameters", *(f"{100 * rate:g} % missing" for rate in rates)]
    columns += ["NFE forward", "NFE backward", "seconds an epoch"]
    return command.Results(values, columns, rows, {"missing": figure(values)})


def _study(options: argparse.Namespace, dataset: str) -> dict[str, Any]:
    """Train the runs on a data set that are not finished, and return the numbers of all."""
    out = pathlib.Path(options.out, dataset)
    study = Study(f"{CONFIG}:{dataset}", out)
    seeds = range(options.seed, options.seed + options.seeds)
    study.cells = [cell for cell in study.cells if cell.seed in seeds]
    if options.quick:
        study.cells = [cell for cell in study.cells if cell.model in QUICK]
        for cell in study.cells:
            cell.experiment.settings.epochs = 1
    with study.open():
        failures = study.train(options.jobs)
        study.write_results(failures)
    if failures:
        raise ValueError("; ".join(f"{cell.name}: {why}" for cell, why in failures.items()))
    return numbers(files.read_json(out / RESULTS))


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a study that are compared.

    Args:
        results: Those that the study wrote.

    Returns:
        `constant`, the accuracy of the most frequent class, and `models`, a list of a dict for
        each model and rate of missing points, with lists over seeds.
    """
    models = []
    for name, found in results["models"].items():
        missing = found["settings"]["data"]["missing"]
        one = {"model": name.rpartition("_")[0], "missing": missing}
        one |= {name: found[name] for name in ("parameters", "seeds")}
        for name in ("test_accuracy", "nfe_forward", "nfe_backward", "seconds_per_epoch"):
            one[name] = found[name]["values"]
        models.append(one)
    (constant,) = results["constants"].values()
    return {"constant": constant, "models": models}


def table(dataset: str, values: dict[str, Any]) -> list[list[str]]:
    """Return the rows of a data set. NFE and seconds are over all rates."""
    rows = []
    for model in dict.fromkeys(one["model"] for one in values["models"]):
        found = [one for one in values["models"] if one["model"] == model]
        found.sort(key=lambda one: one["missing"])
        row = [dataset, model, f"{found[0]['parameters']:,}"]
        row += [command.spread([100 * x for x in one["test_accuracy"]], 1) for one in found]
        for name in ("nfe_forward", "nfe_backward"):
            counts = [x for one in found for x in one[name]]
            row.append(f"{statistics.fmean(counts):.0f}" if counts else "-")
        row.append(command.spread([x for one in found for x in one["seconds_per_epoch"]], 2))
        rows.append(row)
    rates = len({one["missing"] for one in values["models"]})
    constant = f"{100 * values['constant']:.1f}"
    return [*rows, [dataset, CONSTANT, "0", *[constant] * rates, *["-"] * 3]]


def figure(values: dict[str, dict[str, Any]]) -> Any:
    """Draw the accuracy by the rate of missing points: mean and standard deviation over seeds."""
    seeds = next(iter(values.values()))["models"][0]["seeds"]
    result, axes = plots.new_figure(plots.origin([], seeds), columns=len(values), sharey=True)
    handles: dict[str, Any] = {}
    for axis, (dataset, found) in zip(axes, values.items()):
        names = list(dict.fromkeys(one["model"] for one in found["models"]))
        for name, color in style.colors(names).items():
            ones = [one for one in found["models"] if one["model"] == name]
            ones.sort(key=lambda one: one["missing"])
            accuracy = np.array([one["test_accuracy"] for one in ones]).T  # (seeds, rates)
            rates = [100 * one["missing"] for one in ones]
            handles[name] = plots.draw_band(axis, rates, accuracy, color)
        # A line there would leave the models no room.
        title = f"{dataset} ({CONSTANT}: {100 * found['constant']:.1f} %)"
        axis.set(title=title, xlabel="points missing, %", xticks=rates)
        style.percent(axis)
        style.grid(axis)
    axes[0].set_ylabel("test accuracy, %")
    plots.legend(result, handles)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("series", __doc__)
    add = parser.add_argument
    add("--seeds", type=command.at_least(1), default=5, help="how many seeds, at most 5 (5)")
    add("--jobs", type=command.at_least(1), default=1, help="processes at the same time")
    add("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), help="all by default")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
