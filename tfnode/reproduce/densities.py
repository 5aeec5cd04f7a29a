"""Continuous normalizing flows in the plane, with and without regularised dynamics.

Trains `tfnode.models.cnf` by maximum likelihood on two moons, two circles and a pinwheel: a
perceptron of three hidden layers of 64, the exact trace, Dormand-Prince at a tolerance of 1e-5,
batches of 256, Adam at 5e-3 with warm-up and a cosine to 0. The regularisers are those of Finlay,
Jacobsen, Nurbekyan and Oberman, *How to train your neural ODE* (2020), the kinetic energy and the
squared norm of the Jacobian, both with the weights of the table. Draws the data, the densities,
samples, and how samples move.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfnode.files import plots, style
from tfnode.reproduce import command, planar

WEIGHTS = (0.0, 0.01, 0.03, 0.1)
# In some 20 epochs a flow learns that the circles are two.
EPOCHS = {"moons": 30, "circles": 60, "pinwheel": 30}
DRAWN = 0.1  # The weight in the figure of the densities.
HIDDEN, TOLERANCE, BATCH_SIZE, LEARNING_RATE = (64, 64, 64), 1e-5, 256, 5e-3
TRAINING, HELD_OUT = 2**13, 2**12
LIMIT = 4.0  # Half the width of the drawn part of the plane.


def network(weight: float) -> Any:
    """Return the flow, not compiled."""
    from tfnode import models

    terms = {"kineticenergy": weight, "jacobianfrobenius": weight}
    return models.cnf((2,), hidden_units=HIDDEN, tol=TOLERANCE, regularizers=terms)


def train(name: str, weight: float, seed: int, epochs: int, size: int, held_out: int) -> Any:
    """Train one flow.

    Returns:
        `(model, values)`: the latter a dict of lists of numbers, one an epoch, and of what
        the trained flow is like on held-out samples.
    """
    import keras

    from tfnode.callbacks import SolverStats

    keras.utils.set_random_seed(seed)
    x = planar.samples(name, size, seed, 0)
    validation, test = (planar.samples(name, held_out, seed, split) for split in (1, 2))
    model = network(weight)
    steps = epochs * (size // BATCH_SIZE)
    warm_up = min(50, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    # With XLA a step is little faster, and compiling takes longer than that saves.
    model.compile(keras.optimizers.Adam(rate), jit_compile=False)
    history = model.fit(
        x,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(validation, validation),
        validation_batch_size=held_out,
        callbacks=[SolverStats()],
        verbose=0,
    ).history
    log_prob = model.predict(test, batch_size=held_out, verbose=0)
    return model, {
        "log_likelihood": float(np.mean(log_prob)),
        "nfe_forward": history["nfe_forward"],
        "nfe_backward": history["nfe_backward"],
        "loss": history["loss"],
        "validation_log_likelihood": [-loss for loss in history["val_loss"]],
    }


def run(options: argparse.Namespace) -> command.Results:
    """Train every flow, and draw those of the first seed."""
    names, weights = list(planar.SETS), tuple(WEIGHTS)
    size, held_out = TRAINING, HELD_OUT
    if options.quick:
        names, weights = names[:1], (0.0, DRAWN)
        size, held_out = 2 * BATCH_SIZE, BATCH_SIZE
    values: dict[str, dict[str, list[Any]]] = {}
    drawings = {}
    for name in names:
        values[name] = {}
        epochs = 2 if options.quick else options.epochs or EPOCHS[name]
        for weight in weights:
            runs = values[name][str(weight)] = []
            for seed in range(options.seed, options.seed + options.seeds):
                model, found = train(name, weight, seed, epochs, size, held_out)
                runs.append(found)
                print(
                    f"{name}, weight {weight}, seed {seed}: log-likelihood "
                    f"{found['log_likelihood']:.3f} a sample, NFE {found['nfe_forward'][-1]:.1f}",
                    flush=True,
                )
                if weight in (0.0, DRAWN) and seed == options.seed:
                    drawings[name, weight] = pictures(model, name, seed)
    return command.Results(
        values=values,
        columns=[
            "density",
            "weights",
            "test log-likelihood, nats a sample",
            "NFE forward",
            "NFE backward",
            "NFE against weights of 0",
        ],
        rows=[
            row(name, weight, runs, values[name]["0.0"])
            for name, cells in values.items()
            for weight, runs in cells.items()
        ],
        figures={"densities": draw_densities(drawings), "nfe": draw_nfe(values)},
    )


def row(name: str, weight: str, runs: list[Any], plain: Any) -> list[str]:
    """Return a row of the table; NFE is the mean of the last epoch."""

    def last(runs: list[Any], key: str) -> Any:
        return [r[key][-1] for r in runs]

    ratio = statistics.mean(last(runs, "nfe_forward")) / statistics.mean(last(plain, "nfe_forward"))
    return [
        name,
        weight,
        command.spread([r["log_likelihood"] for r in runs], 3),
        command.spread(last(runs, "nfe_forward"), 1),
        command.spread(last(runs, "nfe_backward"), 1),
        f"{ratio:.2f}",
    ]


def pictures(model: Any, name: str, seed: int, side: int = 120, moving: int = 60) -> Any:
    """Return arrays to draw of a trained flow: the density, samples, and paths."""
    import tensorflow as tf

    from tfnode.integrate import odeint

    line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2.0 * LIMIT - LIMIT
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    x = planar.samples(name, moving, seed, 3)
    flow = model.flow

    @tf.function
    def paths() -> Any:
        times = np.linspace(flow.times[0], flow.times[-1], 41)
        return odeint(flow.dynamics, tf.constant(x), times, solver=flow.solver)

    return {
        "data": planar.samples(name, 4000, seed, 2),
        "density": np.exp(model.predict(grid, batch_size=len(grid), verbose=0)).reshape(side, side),
        "samples": model.sample(4000, seed=seed).numpy(),
        "paths": paths().numpy(),  # (times, samples, 2)
    }


def draw_densities(drawings: Any) -> Any:
    """Draw data, and for both flows the density, samples and paths; a row for each data set."""
    names = list(dict.fromkeys(name for name, _ in drawings))
    # A row for each flow: seven pictures side by side would be too small to see.
    flows = [(name, weight) for name in names for weight in (0.0, DRAWN)]
    figure = plots.blank_figure(style.WIDE, 2.0 * len(flows) + 0.8, "flows in the plane")
    axes = figure.subplots(len(flows), 4, squeeze=False)
    handles: dict[str, Any] = {}
    for (name, weight), row in zip(flows, axes):
        pictures = drawings[name, weight]
        brightest = max(drawings[name, w]["density"].max() for w in (0.0, DRAWN))
        _scatter(row[0], pictures["data"])
        row[0].set_ylabel(f"{name}, {f'weights {weight}' if weight else 'plain'}")
        row[1].imshow(
            pictures["density"],
            origin="lower",
            extent=(-LIMIT, LIMIT, -LIMIT, LIMIT),
            cmap="magma",
            vmin=0.0,
            vmax=brightest,
        )
        _scatter(row[2], pictures["samples"])
        paths = pictures["paths"]
        row[3].plot(paths[..., 0], paths[..., 1], color="0.6", linewidth=0.6)
        for ends, color, label in (
            (paths[0], style.RED, "a path's beginning, in the data"),
            (paths[-1], style.BLUE, "its end, in the normal distribution"),
        ):
            (handles[label],) = row[3].plot(*ends.T, ".", color=color, markersize=3)
        for axis in row:
            axis.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", xticks=[])
            axis.set_yticks([])
    for axis, title in zip(axes[0], ("data", "density", "samples", "paths")):
        axis.set_title(title)
    plots.legend(figure, handles, columns=2)
    return figure


def _scatter(axis: Any, points: Any) -> None:
    axis.plot(points[:, 0], points[:, 1], ",", color=style.BLUE, alpha=0.6)


def draw_nfe(values: Any) -> Any:
    """Draw NFE and held-out likelihood over training, a column for each data set."""
    seeds = max(len(runs) for cells in values.values() for runs in cells.values())
    title = f"flows in the plane, {'one seed' if seeds == 1 else f'{seeds} seeds'}"
    figure = plots.blank_figure(style.WIDE, 4.4, title)
    axes = figure.subplots(2, len(values), squeeze=False, sharex="col")
    handles: dict[str, Any] = {}
    for column, (name, cells) in zip(axes.T, values.items()):
        for axis, key in zip(column, ("nfe_forward", "validation_log_likelihood")):
            curves = {
                weight: [(range(1, len(r[key]) + 1), r[key]) for r in runs]
                for weight, runs in cells.items()
            }
            handles |= plots.draw_bands(axis, curves, "")
        column[0].set(title=name, xlabel="")
        column[1].set_ylim(max(min(_last(cells)) - 0.25, -4.0), max(_last(cells)) + 0.05)
    plots.same_limits(axes[0])
    axes[0, 0].set_ylabel("NFE, forward")
    axes[1, 0].set_ylabel("held-out log-likelihood,\nnats a sample")
    plots.legend(figure, handles, "weights")
    return figure


def _last(cells: dict[str, list[Any]]) -> Any:
    return [r["validation_log_likelihood"][-1] for runs in cells.values() for r in runs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("densities", __doc__)
    usual = ", ".join(f"{name} {epochs}" for name, epochs in EPOCHS.items())
    parser.add_argument("--epochs", type=command.at_least(1), help=f"({usual})")
    parser.add_argument("--seeds", type=command.at_least(1), default=1, help="(%(default)s)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
