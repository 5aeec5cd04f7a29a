"""`Divergence`: stops training that has lost its numbers, and says why."""

import math
import re

import keras
import numpy as np
import tensorflow as tf

from tfnode import solvers
from tfnode.layers import ODEBlock

CHECK_EVERY = 8  # Steps. To look at the loss waits for the device.
KEEP_EVERY = 32
# Weights that have grown by more are a sign of an optimizer whose steps are too long.
GROWTH = 100.0

BAD_DATA = "It is the data: there are values in them that are not finite."


class Diverged(ArithmeticError):
    """A loss that is no number any more; the message says where it came from."""


class Divergence(keras.callbacks.Callback):
    """Raises `Diverged` within 8 steps of a loss that is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` ends the epoch as if it were a whole one: the broken
    model is evaluated, and saved by the callbacks that follow. This ends `fit` at once.

    Then it says what broke. It keeps a copy of the variables of at most 32 steps ago, goes
    on from there once more, and names the first tensor that is not finite: the solution of
    an `ODEBlock`, which is the solver's (its own error too, with the time reached and the
    step size, which XLA had swallowed), the output of another layer, or a gradient. The
    model is of no use afterwards.

    Give it before callbacks that save anything.

    Args:
        batches: A function from the epoch, from 0, to a `tf.data.Dataset` of its batches,
            in the order in which `fit` has them.
    """

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_begin(self, logs=None):
        if not self.model.optimizer.built:
            with self.model.distribute_strategy.scope():
                self.model.optimizer.build(self.model.trainable_variables)
        self._largest = _largest(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._taken = epoch, 0
        self._keep(0)

    def on_train_batch_end(self, batch, logs=None):
        step = self._taken = batch + 1
        if not logs:  # Taken before the run was resumed.
            if self._kept:
                self._kept = step, self._kept[1]
            return
        if step % CHECK_EVERY == 0 or step == self.params["steps"]:
            self._check("loss", logs, step)
        if step % KEEP_EVERY == 0:
            self._keep(step)

    def on_epoch_end(self, epoch, logs=None):
        # A last step may leave weights that only the validation finds out.
        self._check("val_loss", logs, self.params["steps"])

    def _check(self, name, logs, step):
        loss = (logs or {}).get(name)
        if loss is None or math.isfinite(float(loss)):
            return
        where, cause = self._find(step) or (
            step,
            "The steps before, taken again, were all finite: it is in the validation alone, "
            "or different in every run.",
        )
        raise Diverged(
            f"Training diverged in epoch {self._epoch + 1}, step {where}: {name} is "
            f"{float(loss)}. {cause}"
        )

    def explain(self, error):
        """What a solver's error in `fit` means, as `Diverged`; `None` for other errors.

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
        return Diverged(f"Training diverged in epoch {self._epoch + 1}, {where}. {cause}")

    def _bad_data(self, step):
        """Whether the batch of a step, from 0, has inputs that are not finite."""
        batch = self.batches(self._epoch).skip(step).take(1)
        return not all(np.isfinite(inputs).all() for inputs, *_ in batch)

    def _keep(self, step):
        one = self.model.distribute_strategy.num_replicas_in_sync == 1
        self._kept = (step, _values(self.model)) if one else None

    def _find(self, last):
        """Takes the last steps again; returns the step that broke, and why, or `None`."""
        if self.model.distribute_strategy.num_replicas_in_sync > 1:
            return last, "The cause is only looked for in runs on one device."
        print("Looking for the cause.", flush=True)
        first, values = self._kept
        _assign(self.model, values)
        bad = not_finite(self.model)
        if bad:
            return first, self._of_optimizer(f"the gradient of {bad[-1].name} was not finite")
        batches = self.batches(self._epoch).skip(first).take(last - first)
        for step, (x, y) in enumerate(batches, first + 1):
            before = _values(self.model)
            self.model.reset_metrics()  # Keras 3.12 means the loss over steps, those before too.
            try:
                loss = self.model.train_on_batch(x, y, return_dict=True)["loss"]
            except tf.errors.InvalidArgumentError as error:
                _assign(self.model, before)
                return step, self._of_solver(short(error))
            bad = not_finite(self.model)
            if math.isfinite(loss) and not bad:
                continue
            _assign(self.model, before)
            return step, self._in_gradient(bad) if math.isfinite(loss) else self._in_forward(x)
        return None

    def _in_gradient(self, bad):
        """The loss was finite and the weights of the layers `bad` are not."""
        if isinstance(bad[-1], ODEBlock):
            # The layers behind the block got their gradients, so it was lost in the block.
            return self._of_solver(
                f"the loss was finite, the gradient by the backward solve of {bad[-1].name} not"
            )
        return self._of_optimizer(f"the gradient of {bad[-1].name} was not finite")

    def _in_forward(self, x):
        """The loss was not finite, with weights that were."""
        if not np.isfinite(x).all():
            return BAD_DATA
        layers = self.model.layers
        look = tf.function(keras.Model(self.model.inputs, [layer.output for layer in layers]))
        try:
            outputs = look(x, training=True)
        except tf.errors.InvalidArgumentError as error:
            return self._of_solver(short(error))
        for layer, output in zip(layers, outputs):
            if np.isfinite(output).all():
                continue
            what = f"the output of {layer.name} is not finite, its input was"
            return self._of_solver(what) if isinstance(layer, ODEBlock) else self._of_layer(what)
        return self._of_layer("the outputs of all layers are finite, the loss is not")

    def _of_solver(self, what):
        """Sentences that blame the solver, unless the weights say otherwise."""
        if self._has_grown():
            return self._of_optimizer(f"its steps are too long, and so {what}")
        return (
            f"It is the solver: {what}. {self._solvers()} Or try smaller steps or another "
            f"solver. {self._weights()}"
        )

    def _of_layer(self, what):
        """Sentences that blame a layer, unless the weights say otherwise."""
        if self._has_grown():
            return self._of_optimizer(f"its steps are too long, and so {what}")
        return f"It is neither the solver nor the optimizer: {what}. {self._weights()}"

    def _of_optimizer(self, what):
        """Sentences that blame the optimizer."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        return (
            f"It is the optimizer: {what}. Try a --learning_rate below {rate:.6g}. "
            f"{self._weights()}"
        )

    def _has_grown(self):
        return _largest(self.model) > GROWTH * max(self._largest, 0.1)

    def _weights(self):
        now, before = _largest(self.model), self._largest
        return f"The largest weight is {now:.3g}; it was {before:.3g} when training began."

    def _solvers(self):
        """What the solvers of the model were told."""
        told = []
        for block in self.model._flatten_layers():
            if isinstance(block, ODEBlock):
                config = solvers.serialize(block.solver)
                options = ", ".join(f"{k}={v}" for k, v in config["config"].items())
                start, end = block.times[0], block.times[-1]
                told.append(
                    f"{block.name} has {config['class_name']}({options}) from {start:g} to {end:g}."
                )
        return " ".join(told)


def short(error):
    """What an error of TensorFlow says, without the places in the code that it lists."""
    text = getattr(error, "message", None) or str(error)
    found = re.search(r"assertion failed: (.*)", text)
    if found:
        return found.group(1).replace("] [", " ").strip("[] ")
    noise = ("  File", "Graph execution error", "Detected at node", "\t", "(")
    lines = [x.strip() for x in text.splitlines() if x.strip() and not x.startswith(noise)]
    return " ".join(lines)[:500] or type(error).__name__


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _values(model):
    return [v.value.read_value() for v in _variables(model)]


def _assign(model, values):
    for variable, value in zip(_variables(model), values):
        variable.assign(value)


def not_finite(model):
    """The layers of a model with weights that are not finite, from input to output."""
    return [
        layer
        for layer in model.layers
        if not all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in layer.weights)
    ]


def _largest(model):
    """The largest size of a finite number among the weights that are trained."""
    sizes = [np.abs(keras.ops.convert_to_numpy(w)) for w in model.trainable_weights]
    return max((float(s[np.isfinite(s)].max(initial=0.0)) for s in sizes), default=0.0)
