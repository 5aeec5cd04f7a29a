"""Savings of regularised dynamics: evaluations of an adaptive solver over training.

Reference: Finlay, Jacobsen, Nurbekyan, Oberman, *How to train your neural ODE: the world of
Jacobian and kinetic regularization* (2020). Their models are flows on images, trained for days;
this is a small classifier, so the saving is to be seen here, and not their figures.

The images of scikit-learn's digits, averaged to 7x7 pixels, are the initial state of an ODE block
(two hidden layers of 64 with tanh, Dormand-Prince, the adjoint), which a linear layer reads out.
Weights are those of the kinetic energy and of the Jacobian alike. All evaluations are counted by
the solver, those of the backward solve too, in which the integral of the regularisers is part of
the state. An evaluation with the Jacobian costs a product with it besides.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tfnode.files import plots
from tfnode.reproduce import command

CURVES = {
    "nfe_forward": "NFE forward",
    "nfe_backward": "NFE backward",
    "test_accuracy": "test accuracy",
}
# Epochs over which the last values are averaged, since those of one epoch waver.
LAST = 5


def data() -> Any:
    """Return `(x, y, x_test, y_test)` of the digits; images are `(samples, 49)`, around 0."""
    from tfnode import data

    digits = data.load("digits")

    def small(images: Any) -> Any:
        images = images.reshape(len(images), 7, 4, 7, 4).mean(axis=(2, 4))
        return (images.reshape(len(images), 49) / 255.0 - 0.5).astype("float32")

    return small(digits.x_train), digits.y_train, small(digits.x_test), digits.y_test


def model(weight: float, options: argparse.Namespace) -> Any:
    """Return the classifier, a compiled `keras.Model`."""
    import keras

    from tfnode.layers import DenseDynamics, ODEBlock
    from tfnode.regularizers import JacobianFrobenius, KineticEnergy
    from tfnode.solvers import Dopri5

    inputs = keras.Input((49,))
    block = ODEBlock(
        DenseDynamics([options.hidden, options.hidden], "tanh"),
        Dopri5(rtol=options.tol, atol=options.tol),
        "adjoint",
        regularizers=[KineticEnergy(weight), JacobianFrobenius(weight)],
    )
    result = keras.Model(inputs, keras.layers.Dense(10)(block(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    result.compile(
        keras.optimizers.Adam(options.learning_rate),
        loss,
        metrics=["accuracy"],
        jit_compile=not options.quick,
    )
    return result


def begin(network: Any, weight: float, options: argparse.Namespace) -> None:
    """Make a model as if it were new, since compiling one takes longer than training it."""
    import keras

    new = model(weight, options)
    network.set_weights(new.get_weights())
    # This is the seed of the noise of the Jacobian's estimate.
    for variable, fresh in zip(network.non_trainable_variables, new.non_trainable_variables):
        variable.assign(fresh)
    for variable in network.optimizer.variables:
        if variable is not network.optimizer.learning_rate:
            variable.assign(keras.ops.zeros_like(variable))


def train(network: Any, weight: float, seed: int, samples: Any, options: argparse.Namespace) -> Any:
    """Train one model and return its numbers by epoch."""
    import keras

    from tfnode.callbacks import SolverStats

    keras.utils.set_random_seed(seed)
    begin(network, weight, options)
    x, y, x_test, y_test = samples
    x, y = x[: options.samples], y[: options.samples]
    history = network.fit(
        x,
        y,
        batch_size=64,
        epochs=options.epochs,
        validation_data=(x_test, y_test),
        validation_batch_size=len(x_test),
        verbose=0,
        callbacks=[SolverStats()],
    ).history
    history["test_accuracy"] = history["val_accuracy"]
    values = {key: [float(f"{v:.5g}") for v in history[key]] for key in CURVES}
    print(
        f"weight {weight:g}, seed {seed}: test accuracy {values['test_accuracy'][-1]:.4f}, NFE "
        f"forward {values['nfe_forward'][-1]:.1f}, backward {values['nfe_backward'][-1]:.1f}",
        flush=True,
    )
    return {"weight": weight, "seed": seed, **values}


def run(options: argparse.Namespace) -> command.Results:
    """Train every weight and seed and return the results."""
    if options.quick:
        options.seeds, options.epochs, options.samples, options.hidden = 1, 1, 64, 4
    samples = data()
    if options.samples > len(samples[0]):
        raise ValueError(
            f"Expected at most {len(samples[0])} samples to train on, which is all of them. "
            f"Received: --samples={options.samples}"
        )
    seeds = range(options.seed, options.seed + options.seeds)
    weights = sorted({0.0, *options.weights})
    runs = []
    for weight in weights:
        network = model(weight, options)
        runs += [train(network, weight, seed, samples, options) for seed in seeds]
    values, columns, rows = _table(runs, weights)
    figures = {"regularization": _figure(runs, weights)}
    return command.Results(values, columns, rows, figures)


def _table(runs: list[Any], weights: Any) -> Any:
    """Return the values, and the columns and rows of the table."""
    means = [
        {"weight": run["weight"], "seed": run["seed"], **{k: _last(run[k]) for k in CURVES}}
        for run in runs
    ]
    plain = sum(_total(m) for m in means if m["weight"] == 0.0)
    columns = ["weight", "test accuracy, %", "NFE forward", "NFE backward", "NFE against weight 0"]
    rows = []
    for weight in weights:
        chosen = [m for m in means if m["weight"] == weight]
        ratio = sum(map(_total, chosen)) / plain
        rows.append(
            [
                f"{weight:g}",
                command.spread([100 * m["test_accuracy"] for m in chosen], 2),
                command.spread([m["nfe_forward"] for m in chosen], 1),
                command.spread([m["nfe_backward"] for m in chosen], 1),
                f"{ratio:.2f}",
            ]
        )
    return {"runs": runs, f"means of the last {LAST} epochs": means}, columns, rows


def _last(values: Any) -> Any:
    return sum(values[-LAST:]) / len(values[-LAST:])


def _total(means: Any) -> Any:
    return means["nfe_forward"] + means["nfe_backward"]


def _figure(runs: list[Any], weights: Any) -> Any:
    """Draw the curves of every weight over epochs, as mean and standard deviation."""
    title = plots.origin(["digits, 7x7 pixels"], [run["seed"] for run in runs])
    figure, axes = plots.new_figure(title, columns=3, height=3.0)
    handles: dict[str, Any] = {}
    for axis, (name, label) in zip(axes, CURVES.items()):
        curves = {
            f"weight {weight:g}": [
                (range(1, len(run[name]) + 1), run[name]) for run in runs if run["weight"] == weight
            ]
            for weight in weights
        }
        handles |= plots.draw_bands(axis, curves, label)
    plots.same_limits(axes[:2])
    plots.legend(figure, handles)
    return figure


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e30:
        raise argparse.ArgumentTypeError(f"expected a number above 0. Received: {text}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("regularization", __doc__)
    add = parser.add_argument
    add("--seeds", type=command.at_least(1), default=3, help="how many seeds (%(default)s)")
    add("--epochs", type=command.at_least(1), default=60, help="of training (%(default)s)")
    add("--hidden", type=command.at_least(1), default=64, help="units (%(default)s)")
    add("--samples", type=command.at_least(64), default=1437, help="to train on (%(default)s)")
    add("--learning_rate", type=_positive, default=3e-3, help="Adam's (%(default)s)")
    add("--tol", type=_positive, default=1e-5, help="the solver's tolerance (%(default)s)")
    add(
        "--weights",
        type=_positive,
        nargs="+",
        default=[0.01, 0.1],
        metavar="WEIGHT",
        help="of the regularisers, beside 0 (%(default)s)",
    )
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
