"""Measure how far the gradients of a solve are from that of the differential equation.

Command: python benchmarks/gradient_error.py

The dynamics are those of a recurrent network in continuous time, `dy/dt = rate (tanh(W y + b) -
y)` with 16 states from time 0 to 1: the larger the rate, the faster trajectories run together,
and the harder it is to find the way back. The loss is a sum of the last states. Compared are the
gradients in the initial state and in `W` and `b`, relative in the Euclidean norm, with the one
that backpropagation in float64 at a tolerance of 1e-12 finds.

First one rate and the classic Runge-Kutta method with more and more steps, in float64. Then
Dormand-Prince at 1e-6 in float32, and more and more contraction; "reconstruction" is the error
of the initial state that the adjoint finds on its way back, which
`tfnode.callbacks.SolverStats` logs.
"""

import harness
import keras
import numpy as np
import tensorflow as tf

import tfnode

STEPS = (1, 2, 4, 8, 16, 32, 64)
RATES = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0)
GRADIENTS = ("adjoint", "checkpoint", "backprop")
SIZE = 16


class Dynamics(keras.layers.Layer):
    """`rate (tanh(W y + b) - y)`."""

    def __init__(self, rate, dtype):
        super().__init__(dtype=dtype)
        self.rate = rate
        rng = np.random.default_rng(0)
        self.w = tf.Variable(rng.normal(size=(SIZE, SIZE)) * 0.5 / SIZE**0.5, dtype=dtype)
        self.b = tf.Variable(rng.normal(size=SIZE), dtype=dtype)

    def call(self, y):
        return self.rate * (tf.tanh(y @ self.w + self.b) - y)


def gradients(rate, solver, gradient, dtype):
    """Solve and differentiate.

    Returns:
        `(state, by_state, by_parameters, reconstruction_error)`, arrays and a number; `None`
        where the backward solve failed.
    """
    rng = np.random.default_rng(1)
    y0, weights = (tf.constant(rng.normal(size=(1, SIZE)), dtype) for _ in range(2))
    dynamics = Dynamics(rate, dtype)
    block = tfnode.ODEBlock(dynamics, solver=solver, gradient=gradient, dtype=dtype)
    block.build(y0.shape)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(y0)
            y = block(y0, training=True)  # Costs are counted in training.
            loss = tf.reduce_sum(weights * y)
        return y, *tape.gradient(loss, [y0, dynamics.w, dynamics.b])

    try:
        y, *found = [x.numpy().astype(np.float64) for x in run()]
    except tf.errors.InvalidArgumentError:
        return None
    by_parameters = np.concatenate([x.ravel() for x in found[1:]])
    costs = block.costs()
    return y, found[0], by_parameters, costs["reconstruction_error"]


def distance(found, expected):
    """Return the Euclidean distance, relative to the second."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def measure(case, rate, solver, dtype):
    """Return one row for each gradient method."""
    exact = gradients(rate, tfnode.solvers.Dopri5(rtol=1e-12, atol=1e-14), "backprop", "float64")
    rows = []
    for name in GRADIENTS:
        # The lost gradient is what is shown.
        method = (
            tfnode.gradients.Adjoint(max_reconstruction_error=None) if name == "adjoint" else name
        )
        found = gradients(rate, solver, method, dtype)
        row = {**case, "gradient": name}
        if found is not None:
            errors = [distance(a, b) for a, b in zip(found[:3], exact[:3])]
            row.update(zip(("state", "by_state", "by_parameters"), errors))
            if name == "adjoint":
                row["reconstruction"] = float(found[3])
        rows.append(row)
    return rows


def table(rows, key):
    """Return the rows as Markdown, one line for each case and method."""
    columns = (key, "gradient", "last state", "by initial state", "by parameters", "reconstruction")
    names = ("state", "by_state", "by_parameters", "reconstruction")
    lines = []
    for row in rows:
        cells = [f"{row[n]:.0e}" if n in row else "-" for n in names]
        if "state" not in row:
            cells = ["failed", "", "", ""]
        lines.append((f"{row[key]:g}", row["gradient"], *cells))
    return harness.markdown(columns, lines)


def plot(by_steps, by_rate, path):
    """Draw errors against the steps, and against the contraction."""
    from tfnode.files import plots, style

    title = f"recurrent network of {SIZE} states: relative errors"
    figure, axes = plots.new_figure(title, columns=2)
    colors = dict(zip(GRADIENTS, (style.BLUE, style.ORANGE, style.BLACK)))
    handles = {}
    for axis, rows, key in zip(axes, (by_steps, by_rate), ("steps", "rate")):
        for name in GRADIENTS:
            points = [(r[key], r["by_parameters"]) for r in rows if r["gradient"] == name]
            # Checkpoint and backprop lie on each other.
            line = "--" if name == "backprop" else "-"
            (handles[name],) = axis.plot(
                *zip(*points), marker=".", linestyle=line, color=colors[name]
            )
        if key == "rate":
            points = [(r[key], r["reconstruction"]) for r in rows if "reconstruction" in r]
            (handles["reconstruction"],) = axis.plot(
                *zip(*points), marker=".", color=style.GRAY, linestyle=":"
            )
        axis.set_yscale("log")
        style.grid(axis)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xlabel("steps of rk4, float64")
    axes[0].set_ylabel("error of the parameters' gradient")
    axes[1].set_xlabel("contraction; dopri5 at 1e-6, float32")
    plots.legend(figure, handles)
    plots.save(figure, path)


def main():
    """Parse the flags and print the tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--plot", metavar="FILE", help="write a diagram there, a PNG")
    arguments = harness.parse(parser)
    by_steps, by_rate = [], []
    for steps in STEPS:
        solver = tfnode.solvers.RK4(num_steps=steps)
        by_steps += measure({"steps": steps}, 1.0, solver, "float64")
    for rate in RATES:
        solver = tfnode.solvers.Dopri5(rtol=1e-6, atol=1e-6)
        by_rate += measure({"rate": rate}, rate, solver, "float32")
    tables = [table(by_steps, "steps"), table(by_rate, "rate")]
    harness.report(arguments, tables, {"by_steps": by_steps, "by_rate": by_rate})
    if arguments.plot:
        plot(by_steps, by_rate, arguments.plot)


if __name__ == "__main__":
    main()
