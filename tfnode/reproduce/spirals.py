"""Forecasts of spirals of which few points are seen: the latent ODE beside a recurrent network.

Trains `train.py --model=latent_ode` and `--model=rnn` with 30, 50 and 100 of 100 points observed,
each in a folder below `--out`, unless it is there already; a run that was broken off goes on.
The error is that of the forecast, over the 100 times behind those of the observations, against
the spirals without noise, on spirals that were not trained on.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfnode.files import plots, style
from tfnode.lab import config_file, runner
from tfnode.lab.settings import SpiralsSettings
from tfnode.reproduce import command
from tfnode.runs import contents, files

MODELS = {"rnn": "RNN", "latent_ode": "latent ODE"}
# Chen et al. (2018), table 2.
PUBLISHED = {
    "rnn": {30: 0.3937, 50: 0.3202, 100: 0.1813},
    "latent_ode": {30: 0.1642, 50: 0.1502, 100: 0.1346},
}
POINTS = (30, 50, 100)
SHOWN = 4


def run(options: argparse.Namespace) -> command.Results:
    """Train the missing runs, and compare."""
    points: tuple[int, ...] = POINTS
    if options.quick:
        options.seeds, points = 1, POINTS[:1]
    seeds = range(options.seed, options.seed + options.seeds)
    errors, parameters = {}, {}
    for model in MODELS:
        for n in points:
            found = [_trained(options, model, n, seed) for seed in seeds]
            errors[model, n] = [metrics["final"]["val_rmse"] for metrics in found]
            parameters[model] = found[0]["parameters"]
    rows = []
    for model, title in MODELS.items():
        published = [f"{PUBLISHED[model][n]:.4f}" for n in points]
        rows.append([f"{title}, published", "-", *published])
        ours = [command.spread(errors[model, n], 4) for n in points]
        rows.append([title, f"{parameters[model]:,}", *ours])
    values = {f"{model}, {n} points": values for (model, n), values in errors.items()}
    columns = ["RMSE of the forecast", "parameters", *(f"{n} of 100 points" for n in points)]
    figure = _figure(options, points[0])
    return command.Results(values, columns, rows, {"forecasts": figure})


def _folder(options: argparse.Namespace, model: str, points: int, seed: int) -> pathlib.Path:
    return pathlib.Path(options.out, "runs", f"{model}-{points}-seed{seed}")


def _trained(options: argparse.Namespace, model: str, points: int, seed: int) -> dict[str, Any]:
    """Return the metrics of a run, which is trained or resumed unless it is finished."""
    from tfnode.lab import experiment

    settings = config_file.load_settings(config_file.FOLDER / f"{model}.py")
    settings.seed = seed
    settings.data = SpiralsSettings(points=points, noise=settings.data_options["noise"])
    if options.quick:
        settings.epochs, settings.batch_size = 1, 500
    one = runner.Experiment(_folder(options, model, points, seed), settings)
    state = one.state()
    if state == runner.FINISHED:
        return files.read_json(one.path / contents.METRICS)
    return experiment.run(settings, log_dir=one.path, resume=state != runner.NEW)


def _figure(options: argparse.Namespace, points: int) -> Any:
    """Draw reconstructions and extrapolations of a few test spirals by both models."""
    import keras

    from tfnode.data import spirals
    from tfnode.serving import trained

    dots = {"marker": ".", "linestyle": "", "markersize": 3.5}

    found = spirals.held_out(points)
    x = spirals.inputs(found)[:SHOWN]
    title = plots.origin([f"test spirals, {points} of 100 points observed"], [options.seed])
    figure = plots.blank_figure(style.WIDE, 5.1, title)
    handles: dict[str, Any] = {}
    for (model, title), axes in zip(MODELS.items(), figure.subplots(len(MODELS), SHOWN)):
        network = trained.load(_folder(options, model, points, options.seed) / contents.MODEL)
        paths = network.predict(x, verbose=0)
        before = None
        if model == "latent_ode":
            start = keras.Model(network.input, network.get_layer("initial_state").output)(x)
            ode, decoder = network.get_layer("ode"), network.get_layer("decoder")
            times = [-t for t in ode.times[: spirals.WINDOW + 1]]
            before = np.asarray(decoder(ode(start, times=times)))
        for i, axis in enumerate(axes):
            truth = found.path[i]
            first = found.observed[i].argmax() if before is None else 0
            drawn: dict[str, Any] = {
                "truth": (truth, {"color": "0.8", "linewidth": 3.5}),
                "observed": (found.seen[i][found.observed[i]], {"color": "0.2", **dots}),
                "in the window": (paths[i, first : spirals.WINDOW], {"color": style.BLUE}),
                "extrapolation": (paths[i, spirals.WINDOW - 1 :], {"color": style.RED}),
            }
            if before is not None:
                drawn["backward in time"] = (before[i], {"color": style.GREEN})
            drawn["begin of the window"] = (
                truth[spirals.WINDOW, None],
                {"color": "black", "marker": "*", "linestyle": "", "markersize": 7},
            )
            for label, (points_of, look) in drawn.items():
                (handles[label],) = axis.plot(*points_of.T, **{"linewidth": 1.3, **look})
            # The limits are the same for both models: a path that leaves them is cut off.
            middle = (truth.min(axis=0) + truth.max(axis=0)) / 2
            half = 0.65 * np.ptp(truth, axis=0).max()
            axis.set(
                xlim=(middle[0] - half, middle[0] + half),
                ylim=(middle[1] - half, middle[1] + half),
                aspect="equal",
            )
            if model == next(iter(MODELS)):
                axis.set_title(f"{'counter-' * (i % 2)}clockwise")
        axes[0].set_ylabel(title)
    plots.legend(figure, handles, columns=3)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("spirals", __doc__)
    parser.add_argument("--seeds", type=command.at_least(1), default=3, help="how many seeds (3)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
