"""Maps that a Neural ODE cannot represent and an augmented one can: crossing, nested circles.

Reference: Dupont, Doucet, Teh, *Augmented Neural ODEs* (2019), sections 3 to 5.

- `crossing`: g(-1) = 1 and g(1) = -1. Trajectories on a line cannot cross. The state at time 1
  is the output, since a linear read-out could change its sign; of an augmented state, its first
  component.
- `nested`: g = -1 in the disc of radius 1/2, +1 in the ring between 1 and 3/2. No flow of the
  plane takes the disc out of the ring, for a linear read-out to part them.

The largest error of the plain one is at least 1 on both, whatever its training: on the line the
images of -1 and 1 keep their order, and in the plane the image of the ring surrounds that of the
disc, so that a linear read-out is no larger on some point of the ring than on one of the disc.
(On a sample of points it can fall short of that.) What a plain one can do is to pull the disc
through a gap in the ring that no point to train on lies in.

Trains both models on both problems, with the settings of the authors' code: two hidden layers of
32 with ReLU, Dormand-Prince at 1e-3, Adam at 1e-3, batches of 64, the Huber loss, 500 points in
the disc and 1,500 in the ring.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfnode.reproduce import augmentation_figures as figures
from tfnode.reproduce import command

PROBLEMS = ("crossing", "nested")
RADII = (0.5, 1.0, 1.5)


def crossing(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `size` samples of the crossing map, `(size, 1)` and `(size, 1)`."""
    x = rng.choice([-1.0, 1.0], (size, 1))
    return x.astype("float32"), -x.astype("float32")


def nested(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `size` points, `(size, 2)`, a quarter in the disc, and their targets, `(size, 1)`.

    Uniform in area in each of the two.
    """
    inside = np.arange(size) < size // 4
    low, high = np.where(inside[:, None], (0.0, RADII[0]), (RADII[1], RADII[2])).T
    radius = np.sqrt(rng.uniform(low**2, high**2))
    angle = rng.uniform(0.0, 2 * np.pi, size)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    y = np.where(inside, -1.0, 1.0)[:, None]
    return x.astype("float32"), y.astype("float32")


def model(problem: str, augment: int, hidden: int, jit_compile: bool = True) -> Any:
    """Return the (augmented) Neural ODE for a problem, to `(batch, 1)`."""
    import keras

    from tfnode.layers import Augment, DenseDynamics, ODEBlock
    from tfnode.solvers import Dopri5

    inputs = keras.Input((1 if problem == "crossing" else 2,))
    dynamics = DenseDynamics([hidden, hidden], "relu")
    block = ODEBlock(dynamics, Dopri5(rtol=1e-3, atol=1e-3), "checkpoint", name="ode")
    states = block(Augment(augment)(inputs))
    # The first component alone, or a linear read-out.
    readout = keras.layers.Dense(1, name="readout")
    outputs = states[:, :1] if problem == "crossing" else readout(states)
    result = keras.Model(inputs, outputs)
    result.compile(keras.optimizers.Adam(1e-3), keras.losses.Huber(), jit_compile=jit_compile)
    return result


def flow(network: Any, x: np.ndarray, augment: int) -> Any:
    """Return a function that takes what the figures show of a model.

    Args:
        network: A model of `model`.
        x: Points, `(points, dimensions)`.
        augment: Number of channels of zeros.

    Returns:
        A function without arguments, which takes the model as it is then. It returns a dict of
        the states `paths` of the points at even times from 0 to 1, `(times, points, dimensions
        + augment)`; `grid`, pairs of a time and states, and `field`, the velocities of these;
        `readout`, its weights and bias, or `None`.
    """
    import tensorflow as tf

    from tfnode.integrate import odeint

    block, last = network.get_layer("ode"), network.layers[-1]
    starts = tf.pad(tf.constant(x), [[0, 0], [0, augment]])
    times = np.linspace(0.0, 1.0, figures.TIMES)
    solve = tf.function(lambda: odeint(block.dynamics, starts, times, solver=block.solver))

    def take() -> Any:
        paths = solve().numpy()
        grid = figures.grid(paths)
        return {
            "paths": paths,
            "grid": grid,
            "field": [block.dynamics(tf.constant(t), tf.constant(y)).numpy() for t, y in grid],
            "readout": [w.numpy() for w in last.weights] if last.name == "readout" else None,
        }

    return take


def train(problem: str, augment: int, seed: int, options: argparse.Namespace) -> Any:
    """Train one model and return its numbers, and its flow before and after."""
    import keras

    from tfnode.callbacks import SolverStats

    keras.utils.set_random_seed(seed)
    sample = crossing if problem == "crossing" else nested
    x, y = sample(np.random.default_rng([seed, 0]), options.points)
    x_test, y_test = sample(np.random.default_rng([seed, 1]), 5 * options.points)
    network = model(problem, augment, options.hidden, jit_compile=not options.quick)
    take = flow(network, figures.starts(problem, x), augment)
    drawn = {"before": take()} if seed == options.seed else None

    def test(epoch: int, logs: dict[str, Any]) -> None:
        predicted = network.predict(x_test, batch_size=len(x_test), verbose=0)
        logs["test_accuracy"] = np.mean(np.sign(predicted) == y_test)
        logs["largest_error"] = np.abs(predicted - y_test).max()

    listeners = [SolverStats(), keras.callbacks.LambdaCallback(on_epoch_end=test)]
    history = network.fit(
        x, y, batch_size=64, epochs=options.epochs, verbose=0, callbacks=listeners
    ).history
    if drawn:
        drawn["after"] = take()
    values = {
        "problem": problem,
        "augment": augment,
        "seed": seed,
        "parameters": network.count_params(),
        **{key: [float(f"{v:.5g}") for v in history[key]] for key in figures.CURVES},
    }
    name = figures.name(augment)
    last = {key: values[key][-1] for key in figures.CURVES}
    print(
        f"{problem}, {name}, seed {seed}: loss {last['loss']:.4f}, test accuracy "
        f"{100 * last['test_accuracy']:.2f} %, NFE {last['nfe_forward']:.1f}",
        flush=True,
    )
    return values, drawn


def run(options: argparse.Namespace) -> command.Results:
    """Train every model with every seed."""
    if options.quick:
        options.points, options.epochs, options.seeds = 64, 2, 1
    runs, drawn = [], {}
    for problem in PROBLEMS:
        for augment in (0, options.augment):
            for seed in range(options.seed, options.seed + options.seeds):
                values, shown = train(problem, augment, seed, options)
                runs.append(values)
                if shown:
                    drawn[problem, augment] = shown
    return command.Results(
        values={"runs": runs},
        columns=COLUMNS,
        rows=[_row(group) for group in figures.groups(runs).values()],
        figures={
            "crossing": figures.crossing(*(drawn["crossing", n] for n in (0, options.augment))),
            "nested": figures.nested(*(drawn["nested", n] for n in (0, options.augment))),
            "training": figures.training(runs),
        },
    )


COLUMNS = [
    *("problem", "model", "parameters", "seeds", "test accuracy, %"),
    *(
        "99 % after epoch",
        "largest test error",
        "training loss",
        "NFE, first epoch",
        "NFE, last epoch",
    ),
]


def _row(group: list[dict[str, Any]]) -> list[str]:
    def spread(key: str, digits: int, factor: float = 1.0, epoch: int = -1) -> str:
        return command.spread([factor * one[key][epoch] for one in group], digits)

    return [
        group[0]["problem"],
        figures.name(group[0]["augment"]),
        f"{group[0]['parameters']:,}",
        str(len(group)),
        spread("test_accuracy", 2, factor=100.0),
        _first_epoch(group),
        spread("largest_error", 2),
        spread("loss", 4),
        spread("nfe_forward", 1, epoch=0),
        spread("nfe_forward", 1),
    ]


def _first_epoch(group: list[dict[str, Any]]) -> str:
    """Return the first epoch after which test accuracy is 99 %, and for how many seeds."""
    reached = [
        next((i for i, a in enumerate(one["test_accuracy"], 1) if a >= 0.99), None) for one in group
    ]
    found = [epoch for epoch in reached if epoch]
    if not found:
        return "never"
    return command.spread(found, 1) + ("" if all(reached) else f" ({len(found)} seeds)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("augmentation", __doc__)
    add = functools.partial(parser.add_argument, type=command.at_least(1))
    add("--seeds", default=3, help="how many seeds (%(default)s)")
    add("--epochs", default=30, help="passes over the points (%(default)s)")
    add("--points", default=2000, help="points to train on (%(default)s)")
    add("--hidden", default=32, help="size of the two hidden layers (%(default)s)")
    add("--augment", default=1, help="extra dimensions of the augmented model (%(default)s)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
