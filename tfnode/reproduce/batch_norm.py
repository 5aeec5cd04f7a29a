"""The cost in evaluation of batch normalisation inside the dynamics, and its cause.

Trains the paper's Neural ODE once (batches of 64, Adam at 1e-4) and evaluates the same weights on
2,000 test images with four kinds of averages for the norms in the dynamics: one running average for
all times, as `torch.nn.BatchNorm2d` keeps it, and averages by time, as in
`tfnode.layers.TimeBatchNormalization`; each as it ran along with training, and taken again over 100
batches with the weights held, as by `tfnode.callbacks.Recalibrate`.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfnode.files import plots, style
from tfnode.reproduce import command

BATCH_SIZE, LEARNING_RATE, FILTERS = 64, 1e-4, 64
RECALIBRATION = 100
TESTED = 2000  # Images; the effect is tens of points.
WAYS = {
    "one average, running": (True, False),
    "one average, recalibrated": (True, True),
    "by time, running": (False, False),
    "by time, recalibrated": (False, True),
}


def two_averages() -> Any:
    """Return a layer with both kinds of averages, of which inference uses one."""
    import keras
    from keras import ops

    from tfnode.layers import TimeBatchNormalization

    class TwoAverages(TimeBatchNormalization):
        """Batch normalisation that keeps averages by time and one for all times.

        Attributes:
            single: Whether inference uses the latter.
        """

        single = False

        def build(self, t_shape: Any, y_shape: Any) -> None:
            super().build(t_shape, y_shape)
            self.single_mean, self.single_variance = (
                keras.Variable(start, shape=(y_shape[-1],), trainable=False, name=name)
                for start, name in (("zeros", "single_mean"), ("ones", "single_variance"))
            )

        def call(self, t: Any, y: Any, training: bool | None = None) -> Any:
            if training or not self.single:
                return super().call(t, y, training=training)
            scale = self.gamma * ops.rsqrt(self.single_variance + self.epsilon)
            return (y - self.single_mean) * scale + self.beta

        def _normalize_batch(self, y: Any, gamma: Any, beta: Any) -> Any:
            outputs, mean, variance = super()._normalize_batch(y, gamma, beta)
            # PyTorch's momentum of 0.1, and as in PyTorch after every evaluation.
            self.single_mean.assign_add(0.1 * (ops.stop_gradient(mean) - self.single_mean))
            size = ops.cast(ops.size(y) / ops.size(mean), variance.dtype)
            unbiased = ops.stop_gradient(variance) * size / (size - 1.0)
            self.single_variance.assign_add(0.1 * (unbiased - self.single_variance))
            return outputs, mean, variance

    return TwoAverages(renorm=False)


def network(input_shape: tuple[int, ...]) -> Any:
    """Return `tfnode.models.odenet` with such norms, and these."""
    import keras

    from tfnode.layers import ConvDynamics, FusedBatchNormalization, ODEBlock

    dynamics = ConvDynamics(FILTERS)
    dynamics.norms = [two_averages(), two_averages()]
    layers = [
        keras.Input(input_shape),
        keras.layers.Conv2D(FILTERS, 3),
        FusedBatchNormalization(momentum=0.9, epsilon=1e-5),
        keras.layers.ReLU(),
        keras.layers.Conv2D(FILTERS, 4, strides=2),
        ODEBlock(dynamics, solver="rk38"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
    return keras.Sequential(layers), dynamics.norms


def evaluate(model: Any, norms: list[Any], test: Any, calibration: Any) -> Any:
    """Test accuracy in percent for each of `WAYS`; the averages are as before afterwards."""
    import tensorflow as tf

    def accuracy(single: bool) -> float:
        for norm in norms:
            norm.single = single
        predict = tf.function(lambda x: tf.argmax(model(x, training=False), -1))
        right = [np.mean(predict(x).numpy() == y.numpy()) * len(y) for x, y in test]
        return 100.0 * float(sum(right)) / sum(len(y) for _, y in test)

    found = {name: accuracy(single) for name, (single, again) in WAYS.items() if not again}
    variables = model.non_trainable_variables
    saved = [v.numpy() for v in variables]
    forward = tf.function(lambda x: model(x, training=True))
    for norm in norms:
        norm.reset_averages()
    for x, _ in calibration:
        forward(x)
    found |= {name: accuracy(single) for name, (single, again) in WAYS.items() if again}
    for variable, value in zip(variables, saved):
        variable.assign(value)
    return {name: found[name] for name in WAYS}


def run(options: argparse.Namespace) -> command.Results:
    """Train, and evaluate every so many steps."""
    import keras

    from tfnode import data

    keras.utils.set_random_seed(options.seed)
    quick = options.quick and options.dataset == "auto" and not options.data_dir
    dataset = data.load("digits" if quick else options.dataset, options.data_dir)
    model, norms = network(dataset.x_train.shape[1:])
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    test = list(dataset.test_batches(500).take(TESTED // 500))
    steps = 5 if options.quick else options.steps
    rows = []
    for number in range(1 if options.quick else options.evaluations):
        batches = dataset.training_batches(BATCH_SIZE, options.seed, epoch=number)
        history = model.fit(batches, steps_per_epoch=steps, verbose=2, shuffle=False).history
        accuracies = evaluate(
            model, norms, test, batches.take(min(dataset.steps(BATCH_SIZE), RECALIBRATION))
        )
        rows.append(
            {
                "steps": (number + 1) * steps,
                "training": 100.0 * history["accuracy"][0],
                **accuracies,
            }
        )
        print(rows[-1], flush=True)
    names = list(rows[0])[1:]
    return command.Results(
        values={"dataset": dataset.name, "parameters": model.count_params(), "evaluations": rows},
        columns=["steps", *names],
        rows=[[str(r["steps"]), *(f"{r[name]:.2f} %" for name in names)] for r in rows],
        figures={"batch_norm": draw(rows, plots.origin([dataset.name], [options.seed]))},
    )


def draw(rows: list[dict[str, Any]], title: str) -> Any:
    """Draw the accuracies over the steps.

    One average for all times and averages by time have a colour each; running ones are dashed.
    """
    looks = {
        "by time, recalibrated": (style.BLUE, "-"),
        "by time, running": (style.BLUE, "--"),
        "one average, recalibrated": (style.RED, "-"),
        "one average, running": (style.RED, "--"),
        "training": (style.GRAY, "-"),
    }
    figure = plots.blank_figure(style.WIDE, 3.4, title)
    axis = figure.subplots()
    handles: dict[str, Any] = {}
    for name, (color, line) in looks.items():
        label = name if name == "training" else f"test: {name}"
        (handles[label],) = axis.plot(
            [row["steps"] for row in rows],
            [row[name] for row in rows],
            color=color,
            linestyle=line,
            marker="o",
            markersize=3.5,
        )
    axis.set(xlabel="steps", ylabel="accuracy, %", ylim=(0.0, 102.0))
    style.grid(axis)
    plots.legend(figure, handles)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command.parser("batch_norm", __doc__)
    parser.add_argument(
        "--steps",
        type=command.at_least(1),
        default=150,
        help="between evaluations (%(default)s)",
    )
    parser.add_argument(
        "--evaluations", type=command.at_least(1), default=4, help="how many (%(default)s)"
    )
    parser.add_argument("--dataset", choices=("auto", "mnist", "digits"), default="auto")
    parser.add_argument("--data_dir", metavar="DIR", help="folder of MNIST, as for train.py")
    return command.main(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
