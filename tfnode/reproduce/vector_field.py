"""The vector field behind one noisy trajectory, for a linear and a cubic spiral.

From 1,000 noisy samples of one solution, `dy/dt = A y` and `dy/dt = A y^3` (element by element)
are learned twice each: as the matrix `A` alone, and as a perceptron that knows nothing of the
form. First an `ODEBlock` is fitted to short pieces of the trajectory by `model.fit`, which gets
near from anywhere; then `odeint` to the first sixteenth of the trajectory, the first eighth and
so on to the whole of it, with the initial state learned as well, which takes out the bias of
pieces that begin at noisy samples. Fitted to the whole at once, a small error of the velocity at
the start is a large one of the phase in the end, from which no gradient leads back.

The problems are those of torchdiffeq's ode_demo.py, which fits pieces without noise.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfnode.reproduce import command
from tfnode.reproduce.vector_field_figure import figure

MATRIX = np.array([[-0.1, -2.0], [2.0, -0.1]])
POWERS = {"linear": 1, "cubic": 3}
DYNAMICS = ("matrix", "perceptron")
START = (2.0, 0.0)
END = 25.0
SAMPLES = 1000
NOISE = 0.05
PIECE = 10
# Shares of the trajectory, one after the other.
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
COLUMNS = [
    *("problem", "learned as", "parameters", "largest error of A", "error of the field"),
    *("RMSE, t < 25", "RMSE, 25 < t < 50"),
]


class Fit(NamedTuple):
    """A fit to one problem.

    Attributes:
        parameters: Their number.
        matrix: `A` as learned, `(2, 2)`, or `None` for a perceptron.
        states: The learned trajectory on the times that were asked for, `(times, 2)`.
        field: A function from states to their learned derivatives, `(points, 2)` both.
    """

    parameters: int
    matrix: np.ndarray | None
    states: np.ndarray
    field: Callable[[np.ndarray], np.ndarray]


def true_field(power: int) -> Any:
    """Return the derivative, as a function of states `(..., 2)`."""
    return lambda y: y**power @ MATRIX.T


def trajectory(power: int, times: np.ndarray) -> np.ndarray:
    """Return the solution from `START` at `times`, float64 `(times, 2)`."""
    import tensorflow as tf

    from tfnode.integrate import odeint
    from tfnode.solvers import Dopri8

    solver, matrix = Dopri8(rtol=1e-10, atol=1e-12, max_steps=100_000), tf.constant(MATRIX)

    @tf.function
    def solve() -> Any:
        y0 = tf.constant(START, tf.float64)
        return odeint(lambda t, y: tf.linalg.matvec(matrix, y**power), y0, times, solver=solver)

    return solve().numpy()


def fit(
    dynamics: str,
    power: int,
    samples: Any,
    times: np.ndarray,
    all_times: np.ndarray,
    seed: int,
    epochs: int,
    steps: int,
    shares: Sequence[float] = SHARES,
    jit_compile: bool = True,
) -> Fit:
    """Learn a vector field from samples of one trajectory.

    Args:
        dynamics: One of `DYNAMICS`.
        power: That of the state in the problem; a perceptron is not told.
        samples: float32 `(samples, 2)`, at `times`.
        times: `(samples,)`, equidistant, from 0.
        all_times: Where to solve what was learned, from 0.
        seed: Of the weights and the order of pieces.
        epochs: Passes over the pieces.
        steps: Steps of the optimizer on each of the shares.
        shares: How much of the trajectory is fitted, one after the other.
        jit_compile: Whether XLA compiles the training, which pays for long ones.
    """
    import keras
    import tensorflow as tf

    from tfnode.integrate import odeint
    from tfnode.layers import ODEBlock

    keras.utils.set_random_seed(seed)
    y = keras.Input((2,))
    if dynamics == "matrix":
        # From random weights the cubic solution may end in a finite time.
        layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")
        derivative = layer(y**power)
    else:
        hidden = keras.layers.Dense(50, "gelu")(keras.layers.Dense(50, "gelu")(y))
        derivative = keras.layers.Dense(2)(hidden)
    field = keras.Model(y, derivative)

    pieces = np.stack([samples[i : len(samples) - PIECE + i + 1] for i in range(PIECE)], axis=1)
    block = ODEBlock(field, "dopri5", "checkpoint", times=times[:PIECE], return_sequences=True)
    model = keras.Sequential([keras.Input((2,)), block])
    batches = -(-len(pieces) // 100)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * batches, alpha=0.05)
    model.compile(keras.optimizers.Adam(rate), "mse", jit_compile=jit_compile)
    model.fit(pieces[:, 0], pieces, batch_size=100, epochs=epochs, verbose=0)

    start = keras.Variable(samples[0])
    variables = [start, *field.trainable_variables]
    for share in shares:
        count = max(PIECE, round(share * len(samples)))
        rate = keras.optimizers.schedules.CosineDecay(
            1e-4, steps - steps // 5, warmup_target=2e-3, warmup_steps=steps // 5
        )
        # The gradient grows with the time if the phase is wrong.
        optimizer = keras.optimizers.Adam(rate, global_clipnorm=0.1)
        optimizer.build(variables)

        @tf.function(jit_compile=jit_compile)
        def descend(optimizer: Any = optimizer, count: int = count) -> Any:
            with tf.GradientTape() as tape:
                states = odeint(field, start.value[None], times[:count], gradient="checkpoint")
                loss = tf.reduce_mean((states[:, 0] - samples[:count]) ** 2)
            optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
            return loss

        for _ in range(steps):
            loss = descend()
        if not np.isfinite(loss):
            raise ValueError(f"The {dynamics} diverged in the fit to {count} samples.")
    solve = tf.function(lambda: odeint(field, start.value[None], all_times))
    return Fit(
        parameters=field.count_params(),
        matrix=layer.kernel.numpy().T if dynamics == "matrix" else None,
        states=solve().numpy()[:, 0],
        field=lambda states: field(states.astype(np.float32)).numpy(),
    )


def run(options: argparse.Namespace) -> command.Results:
    """Learn both problems in both ways, for every seed."""
    samples_count, epochs, steps, quick = SAMPLES, 60, 1500, options.quick
    shares: Sequence[float] = SHARES
    if quick:
        options.seeds, samples_count, epochs, steps, shares = 1, 100, 1, 2, SHARES[:1]
    times = np.linspace(0.0, END, samples_count)
    all_times = np.linspace(0.0, 2 * END, 2 * samples_count - 1)
    rows, values, drawn = [], {}, {}
    for problem, power in POWERS.items():
        truth = trajectory(power, all_times)
        for dynamics in DYNAMICS:
            found = []
            for seed in range(options.seed, options.seed + options.seeds):
                noise = np.random.default_rng(seed).normal(scale=NOISE, size=(samples_count, 2))
                samples = (truth[:samples_count] + noise).astype(np.float32)
                data = samples, times, all_times
                fitted = fit(dynamics, power, *data, seed, epochs, steps, shares, not quick)
                found.append({"seed": seed, **_errors(fitted, power, truth, samples_count)})
                print(problem, dynamics, found[-1], flush=True)
                if seed == options.seed:
                    drawn[problem, dynamics] = fitted, truth, samples
            values[f"{problem}, {dynamics}"] = found
            rows.append([problem, dynamics, str(fitted.parameters), *_cells(found)])
    values["true matrix"] = MATRIX.tolist()
    figures = {
        problem: figure(problem, drawn[problem, "perceptron"], all_times, true_field(power))
        for problem, power in POWERS.items()
    }
    return command.Results(values, COLUMNS, rows, figures)


def _errors(fitted: Fit, power: int, truth: np.ndarray, count: int) -> dict[str, Any]:
    """Return the errors of a fit."""
    exact, learned = true_field(power)(truth[:count]), fitted.field(truth[:count])
    squares = ((fitted.states - truth) ** 2).mean(axis=1)
    result = {
        # Along the trajectory, relative to its size there.
        "field": float(np.sqrt(((learned - exact) ** 2).sum() / (exact**2).sum())),
        "rmse": float(np.sqrt(squares[:count].mean())),
        "rmse_beyond": float(np.sqrt(squares[count:].mean())),
    }
    if fitted.matrix is not None:
        result["matrix"] = fitted.matrix.tolist()
        result["matrix_error"] = float(np.abs(fitted.matrix - MATRIX).max())
    return result


def _cells(found: list[dict[str, Any]]) -> list[str]:
    """Return means over seeds of the errors, for the table."""

    def mean(name: str) -> Any:
        return statistics.mean(x[name] for x in found)

    matrix = f"{mean('matrix_error'):.4f}" if "matrix_error" in found[0] else "-"
    field = f"{100 * mean('field'):.2f} %"
    return [matrix, field, f"{mean('rmse'):.4f}", f"{mean('rmse_beyond'):.4f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("vector_field", __doc__)
    parser.add_argument("--seeds", type=command.at_least(1), default=3, help="how many seeds (3)")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
