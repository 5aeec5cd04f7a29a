"""`Divergence`: the end of a training that has lost its numbers, and the cause."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfnode.callbacks import checkpoint
from tfnode.layers import ODEBlock
from tfnode.layers.solve_costs import CountsCosts

CHECK_EVERY = 8  # Steps. Reading the loss waits for the device.
KEEP_EVERY = 32
# Weights that have grown by more are a sign of an optimizer whose steps are too long.
GROWTH = 100.0

BAD_DATA = "It is the data: they have values that are not finite."


class Diverged(ArithmeticError):
    """A loss that is not finite; the message says where it came from.

    Attributes:
        blamed: `"solver"`, `"optimizer"`, or `None` for another cause.
    """

    def __init__(self, message: str, blamed: str | None = None) -> None:
        super().__init__(message)
        self.blamed = blamed


class Divergence(keras.callbacks.Callback):
    """`Diverged`, raised within 8 steps of a loss that is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` ends the epoch as if it were a whole one: the broken model
    is evaluated, and saved by the callbacks that follow. This callback ends `fit` at once.

    Then it says what broke. It keeps a copy of the variables of at most 32 steps ago. It goes on
    from there once more, and names the first tensor that is not finite. That is the solution of
    an `ODEBlock`, the output of another layer, or a gradient. A solver's own error, with the
    time reached and the step size, is shown too; XLA had hidden it. The model is of no use
    afterwards.

    It belongs before callbacks that save anything.

    Args:
        batches: A function from the epoch, from 0, to a `tf.data.Dataset` of its batches,
            in the order in which `fit` takes them.
    """

    def __init__(self, batches: Callable[[int], tf.data.Dataset]) -> None:
        super().__init__()
        self._blamed: str | None = None
        # A step of the epoch, and the variables after it.
        self._kept: tuple[int, list[Any]] | None = None
        self.batches = batches

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.model.optimizer.built:
            with self.model.distribute_strategy.scope():
                self.model.optimizer.build(self.model.trainable_variables)
        self._largest = _largest(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._taken = epoch, 0
        self._keep(0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self._taken = batch + 1
        if not logs:  # The step was taken before the run was resumed.
            if self._kept:
                self._kept = step, self._kept[1]
            return
        if step % CHECK_EVERY == 0 or step == self.params["steps"]:
            self._check("loss", logs, step)
        if step % KEEP_EVERY == 0:
            self._keep(step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # Only the validation shows the weights of the last step.
        self._check("val_loss", logs, self.params["steps"])

    def _check(self, name: str, logs: Any, step: int) -> None:
        loss = (logs or {}).get(name)
        if loss is None or math.isfinite(float(loss)):
            return
        where, cause = self._find(step) or (
            step,
            "The steps before, taken again, were all finite: it is in the validation alone, "
            "or differs from run to run.",
        )
        raise Diverged(
            f"Training diverged in epoch {self._epoch + 1}, step {where}: {name} is "
            f"{float(loss)}. {cause}",
            self._blamed,
        )

    def explain(self, error: tf.errors.OpError) -> Diverged | None:
        """Return a solver's error in `fit` as `Diverged`; `None` for other errors.

        Args:
            error: A `tf.errors.OpError`.
        """
        if "assertion failed" not in str(error):
            return None
        bad = not_finite(self.model)
        in_validation = self._taken == self.params["steps"]
        where = "validation" if in_validation else f"step {self._taken + 1}"
        if bad:
            cause = self._of_optimizer(f"weights of {bad[0].name} are not finite")
        elif not in_validation and self._bad_data(self._taken):
            cause = BAD_DATA
        else:
            cause = self._of_solver(short(error))
        message = f"Training diverged in epoch {self._epoch + 1}, {where}. {cause}"
        return Diverged(message, self._blamed)

    def _bad_data(self, step: int) -> bool:
        """Return whether the batch of a step, from 0, has inputs that are not finite."""
        return any(_is_bad(inputs) for inputs, *_ in self.batches(self._epoch).skip(step).take(1))

    def _keep(self, step: int) -> None:
        one = self.model.distribute_strategy.num_replicas_in_sync == 1
        self._kept = (step, _values(self.model)) if one else None

    def _find(self, last: int) -> tuple[int, str] | None:
        """Take the last steps again; return the step that broke and the cause, or `None`."""
        if self._kept is None:
            return last, "The cause is only looked for in runs on one device."
        print("Looking for the cause.", flush=True)
        first, values = self._kept
        checkpoint.assign(self.model, values)
        bad = not_finite(self.model)
        if bad:
            return first, self._of_optimizer(f"the gradient of {bad[-1].name} was not finite")
        batches = self.batches(self._epoch).skip(first).take(last - first)
        for step, (x, y) in enumerate(batches, first + 1):
            before = _values(self.model)
            self.model.reset_metrics()  # Keras 3.12 takes the mean over all steps before.
            try:
                loss = self.model.train_on_batch(x, y, return_dict=True)["loss"]
            except tf.errors.InvalidArgumentError as error:
                checkpoint.assign(self.model, before)
                return step, self._of_solver(short(error))
            bad = not_finite(self.model)
            if math.isfinite(loss) and not bad:
                continue
            checkpoint.assign(self.model, before)
            return step, self._in_gradient(bad) if math.isfinite(loss) else self._in_forward(x)
        return None

    def _in_gradient(self, bad: Sequence[Any]) -> str:
        """Return the cause where the loss was finite, and the weights of layers are not."""
        if isinstance(bad[-1], CountsCosts):
            # The layers behind the block got their gradients, so it was lost in the block.
            return self._of_solver(
                f"the loss was finite, the gradient by the backward solve of {bad[-1].name} not"
            )
        return self._of_optimizer(f"the gradient of {bad[-1].name} was not finite")

    def _in_forward(self, x: Any) -> str:
        """Return the cause where the weights were finite, and the loss was not."""
        if _is_bad(x):
            return BAD_DATA
        layers = [x for x in self.model.layers if not isinstance(x, keras.layers.InputLayer)]
        look = tf.function(keras.Model(self.model.inputs, [layer.output for layer in layers]))
        try:
            outputs = look(x, training=True)
        except tf.errors.InvalidArgumentError as error:
            return self._of_solver(short(error))
        for layer, output in zip(layers, outputs):
            if np.isfinite(output).all():
                continue
            what = f"the output of {layer.name} is not finite, its input was"
            return self._of_solver(what) if isinstance(layer, CountsCosts) else self._of_layer(what)
        return self._of_layer("the outputs of all layers are finite, the loss is not")

    def _of_solver(self, what: str) -> str:
        """Return sentences that blame the solver, unless the weights have grown."""
        if self._has_grown():
            return self._of_optimizer(f"its steps are too long, and so {what}")
        self._blamed = "solver"
        return (
            f"It is the solver: {what}. {self._solvers()} Or try smaller steps or another "
            f"solver. {self._weights()}"
        )

    def _of_layer(self, what: str) -> str:
        """Return sentences that blame a layer, unless the weights have grown."""
        if self._has_grown():
            return self._of_optimizer(f"its steps are too long, and so {what}")
        return f"It is neither the solver nor the optimizer: {what}. {self._weights()}"

    def _of_optimizer(self, what: str) -> str:
        """Return sentences that blame the optimizer."""
        self._blamed = "optimizer"
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        return (
            f"It is the optimizer: {what}. Try a learning rate below {rate:.6g}. {self._weights()}"
        )

    def _has_grown(self) -> bool:
        return _largest(self.model) > GROWTH * max(self._largest, 0.1)

    def _weights(self) -> str:
        now, before = _largest(self.model), self._largest
        return f"The largest weight is {now:.3g}; it was {before:.3g} when training began."

    def _solvers(self) -> str:
        """Return the settings of the solvers of the model."""
        told = []
        for block in self.model._flatten_layers():
            if isinstance(block, CountsCosts):
                times = block.times if isinstance(block, ODEBlock) else ()
                span = f"from {times[0]:g} to {times[-1]:g}" if times else "from point to point"
                told.append(f"{block.name} has {block.solver!r} {span}.")
        return " ".join(told)


def _is_bad(inputs: Any) -> bool:
    """Return whether inputs are not finite. In a series, values and times, NaN is missing."""
    infinite = [np.isinf(x).any() for x in keras.tree.flatten(inputs)]
    return any(infinite) if len(infinite) > 1 else not np.isfinite(inputs).all()


def short(error: BaseException) -> str:
    """Return the message of an error of TensorFlow without its list of places in the code."""
    text = getattr(error, "message", None) or str(error)
    found = re.search(r"assertion failed: (.*)", text)
    if found:
        return found.group(1).replace("] [", " ").strip("[] ")
    noise = ("  File", "Graph execution error", "Detected at node", "\t", "(")
    lines = [x.strip() for x in text.splitlines() if x.strip() and not x.startswith(noise)]
    return " ".join(lines)[:500] or type(error).__name__


def _values(model: keras.Model) -> list[Any]:
    return [v.value.read_value() for v in checkpoint.variables(model)]


def not_finite(model: keras.Model) -> list[Any]:
    """Return the layers of a model with weights that are not finite, from input to output."""
    return [
        layer
        for layer in model.layers
        if not all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in layer.weights)
    ]


def _largest(model: keras.Model) -> float:
    """Return the largest size of a finite number among the trainable weights."""
    sizes = [np.abs(keras.ops.convert_to_numpy(w)) for w in model.trainable_weights]
    return max((float(s[np.isfinite(s)].max(initial=0.0)) for s in sizes), default=0.0)
