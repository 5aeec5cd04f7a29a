"""Hare and lynx: Lotka and Volterra's equations, with a network and without, fitted to the pelts.

The pelts of 1845 to 1915 are fitted, and those of 1916 to 1935 forecast. With the logarithms
`u` and `v` of hares and lynxes over their means, and the time in decades, the equations are

    du/dt = a - b exp(v),   dv/dt = d exp(u) - c,

with positive `a` to `d`. The second model adds a perceptron of `u` and `v`, which begins at zero.
`odeint` by `dopri5` solves them from a learned initial state to the first quarter of the years,
the first half and so on to all of them. Seeds draw the first parameters.

The forecasts stand beside three that learn nothing: the last year fitted, the mean, and the same
years of the decade before. Choices, such as the weight decay, were made on other years:
`--until=1895`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfnode.data import hare_lynx
from tfnode.reproduce import command
from tfnode.reproduce.hare_lynx_figure import figure

MODELS = {"lotka_volterra": "Lotka-Volterra", "network": "Lotka-Volterra and a network"}
BASELINES = {
    "persistence": "the last year",
    "constant": "the mean",
    "decade": "ten years before",
}
HORIZON = 20
PERIOD = 10
FINE = 5  # Drawn points a year.
SHARES = (0.25, 0.5, 0.75, 1.0)
HIDDEN = 16
LEARNING_RATE = 1e-2
# The factor of the sum of squares of the network's weights in the loss.
WEIGHT_DECAY = 1e-3
COLUMNS = ["forecast by", "parameters", "RMSE, fitted", "RMSE, forecast", "its hares", "its lynxes"]


class Trajectory(NamedTuple):
    """A fitted model.

    Attributes:
        parameters: Their number, with the initial state.
        path: Logarithms over the means, `FINE` a year, fitted and forecast, `(times, 2)`.
        field: A function from states to their derivatives, both `(points, 2)`.
        rates: `a` to `d`.
    """

    parameters: int
    path: np.ndarray
    field: Callable[[np.ndarray], np.ndarray]
    rates: list[float]

    @property
    def states(self) -> np.ndarray:
        """The states at all years, `(years, 2)`."""
        return self.path[::FINE]


class Equations:
    """Lotka and Volterra's equations with what is learned in them.

    Args:
        network: Whether a perceptron is added.
    """

    def __init__(self, network: bool) -> None:
        import keras

        self.rates = keras.Variable(np.zeros(4, np.float32))
        self.start = keras.Variable(np.zeros(2, np.float32))
        self.network: Any = None
        self.weights: list[Any] = []
        if network:
            layers = [
                keras.Input((2,)),
                keras.layers.Dense(HIDDEN, "tanh"),
                keras.layers.Dense(2, kernel_initializer="zeros"),
            ]
            self.network = keras.Sequential(layers)
            self.weights = self.network.trainable_variables
        self.variables = [self.rates, self.start, *self.weights]

    def begin(self, seed: int, state: np.ndarray) -> None:
        """Draw the first parameters; the state of the first year is that observed."""
        generator = np.random.default_rng(seed)
        # Small cycles about the equilibrium (0, 0) last 2 pi / sqrt(a c), so here a decade.
        self.rates.assign(np.log(2 * np.pi) + 0.1 * generator.normal(size=4))
        self.start.assign(state)
        for weights in self.weights:
            weights.assign(np.zeros(weights.shape))
        if self.network is not None:
            first = self.network.layers[0].kernel
            first.assign(generator.normal(size=first.shape))

    def __call__(self, t: Any, y: Any) -> Any:
        """Return the derivatives of states, both `(..., 2)`; the time has no part in them."""
        import tensorflow as tf

        a, b, c, d = tf.unstack(tf.exp(self.rates.value))
        hares, lynxes = tf.exp(y[..., 0]), tf.exp(y[..., 1])
        slope = tf.stack([a - b * lynxes, d * hares - c], axis=-1)
        return slope if self.network is None else slope + self.network(y)


def fit(
    equations: Equations, logs: np.ndarray, fitted: int, steps: int, seeds: Sequence[int]
) -> list[Trajectory]:
    """Fit the equations once for each seed.

    Args:
        equations: What is learned.
        logs: Logarithms over the means, `(years, 2)`.
        fitted: How many of the years are fitted; to the others the solution goes on.
        steps: Steps of the optimizer on each of `SHARES` of the years.
        seeds: Those of the first parameters.
    """
    import keras
    import tensorflow as tf

    from tfnode.integrate import odeint

    times = np.arange(len(logs), dtype=np.float32) / PERIOD
    seen = tf.constant(logs, tf.float32)
    values = [v.value for v in equations.variables]
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=LEARNING_RATE, warmup_steps=steps // 10
    )
    # The gradient grows with the time if the phase is wrong.
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
    optimizer.build(equations.variables)

    @tf.function(jit_compile=True)
    def descend(count: Any) -> Any:
        used = tf.range(fitted) < count
        # A row of times that ends early repeats its last time, so that all shares share a program.
        ends = tf.minimum(times[None, :fitted], (tf.cast(count, tf.float32) - 1.0) / PERIOD)
        with tf.GradientTape() as tape:
            states = odeint(equations, equations.start.value[None], ends)
            squares = tf.reduce_mean((states[:, 0] - seen[:fitted]) ** 2, axis=-1)
            loss = tf.reduce_sum(tf.where(used, squares, 0.0)) / tf.cast(count, tf.float32)
            for weights in equations.weights:
                loss += WEIGHT_DECAY * tf.reduce_sum(weights.value**2)
        optimizer.apply(tape.gradient(loss, values), equations.variables)
        return loss

    fine = np.arange((len(logs) - 1) * FINE + 1, dtype=np.float32) / (FINE * PERIOD)
    solve = tf.function(lambda: odeint(equations, equations.start.value[None], fine))
    found = []
    for seed in seeds:
        equations.begin(seed, logs[0])
        for share in SHARES:
            for variable in optimizer.variables:
                if variable is not optimizer.learning_rate:
                    variable.assign(tf.zeros_like(variable.value))
            count = tf.constant(max(PERIOD, round(share * fitted)))
            for _ in range(steps):
                loss = descend(count)
            if not np.isfinite(loss):
                raise ValueError(f"The fit of seed {seed} diverged.")
        found.append(_trajectory(equations, solve().numpy()[:, 0]))
    return found


def _trajectory(equations: Equations, path: np.ndarray) -> Trajectory:
    held = [variable.numpy() for variable in equations.variables]

    def field(points: np.ndarray) -> np.ndarray:
        for variable, value in zip(equations.variables, held):
            variable.assign(value)
        return np.asarray(equations(0.0, np.float32(points)))

    parameters = sum(value.size for value in held)
    return Trajectory(parameters, path, field, [float(r) for r in np.exp(held[0])])


def baselines(logs: np.ndarray, fitted: int) -> dict[str, np.ndarray]:
    """Return the forecasts that learn nothing, each `(years not fitted, 2)`."""
    years = np.arange(len(logs) - fitted)
    past = logs[:fitted]
    return {
        "persistence": np.repeat(past[-1:], len(years), axis=0),
        "constant": np.repeat(past.mean(axis=0, keepdims=True), len(years), axis=0),
        "decade": past[fitted - PERIOD + years % PERIOD],
    }


def errors(forecast: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the root mean squared errors of logarithms, of both animals and of each."""
    squares = ((forecast - truth) ** 2).mean(axis=0)
    names = {"rmse": squares.mean(), "hares": squares[0], "lynxes": squares[1]}
    return {name: float(np.sqrt(value)) for name, value in names.items()}


def run(options: argparse.Namespace) -> command.Results:
    """Fit both models for every seed, and compare their forecasts."""
    steps = options.steps
    if options.quick:
        options.seeds, steps = 1, 2
    years, pelts = hare_lynx.load()
    fitted = options.until - int(years[0]) + 1
    years, logs = years[: fitted + HORIZON], np.log(pelts[: fitted + HORIZON])
    if len(years) < fitted + HORIZON or fitted < 2 * PERIOD:
        raise ValueError(
            f"Expected a year from 1864 to 1915, with {HORIZON} years to forecast behind it. "
            f"Received: --until={options.until}"
        )
    logs = logs - logs[:fitted].mean(axis=0)
    seeds = range(options.seed, options.seed + options.seeds)
    values: dict[str, Any] = {"years": years.tolist(), "fitted": fitted, "data": logs.tolist()}
    rows, drawn = [], {}
    for name, forecast in baselines(logs, fitted).items():
        values[name] = errors(forecast, logs[fitted:])
        cells = [f"{value:.3f}" for value in values[name].values()]
        rows.append([BASELINES[name], "0", "-", *cells])
    for name, title in MODELS.items():
        drawn[name] = fit(Equations(name == "network"), logs, fitted, steps, seeds)
        values[name] = [
            {
                "seed": seed,
                "fitted": errors(one.states[:fitted], logs[:fitted])["rmse"],
                "forecast": errors(one.states[fitted:], logs[fitted:]),
                "rates": one.rates,
                "states": one.states.tolist(),
            }
            for seed, one in zip(seeds, drawn[name])
        ]
        found = [[one["fitted"], *one["forecast"].values()] for one in values[name]]
        print(name, np.round(found, 3).tolist(), flush=True)
        cells = [command.spread(column, 3) for column in zip(*found)]
        rows.append([title, str(drawn[name][0].parameters), *cells])
    picture = figure(years, fitted, logs, {MODELS[n]: t for n, t in drawn.items()}, list(seeds))
    return command.Results(values, COLUMNS, rows, {"hare_lynx": picture})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("hare_lynx", __doc__)
    add = parser.add_argument
    add("--seeds", type=command.at_least(1), default=5, help="how many seeds (%(default)s)")
    add("--until", type=command.at_least(1), default=1915, help="the last year fitted (1915)")
    add("--steps", type=command.at_least(10), default=1000, help="on each share (%(default)s)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
