"""`Recalibrate`: running averages that belong to the latest weights."""

import functools
from typing import Any

import keras
import tensorflow as tf

from tfnode import checks
from tfnode.callbacks.average_weights import averages_of
from tfnode.layers import TimeBatchNormalization


class Recalibrate(keras.callbacks.Callback):
    """New averages of `TimeBatchNormalization` before each validation.

    A running average lags behind the weights. Elsewhere that does little. Inside an ODE each
    stage is normalised after stages that were normalised by averages themselves, so the lag is
    amplified: on MNIST it costs tens of points of accuracy in evaluation. So the averages are
    reset before the model is evaluated, and taken again over some training batches, with fixed
    weights. Batch normalisation was published that way: its inference uses statistics of the
    finished network.

    Nothing happens in a model without the layer. The exception is a model with plain batch
    normalisation that is judged by the averages of its weights (see `AverageWeights`): its
    running averages would be those of other weights.

    Args:
        batches: A `tf.data.Dataset` of `(inputs, targets)`, of which the first `steps`
            batches are used, in training mode and without a gradient.
        steps: How many batches, an int of at least 1.

    Example:
    ```python
    model.fit(batches, validation_data=test, callbacks=[tfnode.callbacks.Recalibrate(batches)])
    ```

    Reference: Ioffe, Szegedy, *Batch Normalization* (2015), algorithm 2; Wu, Johnson,
    *Rethinking "Batch" in BatchNorm* (2021), section 3.
    """

    def __init__(self, batches: tf.data.Dataset, steps: int = 100) -> None:
        super().__init__()
        self.batches = batches
        self.steps = checks.integer("steps", steps, 1)
        self._forward: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model

        # Traced once, for all epochs; every replica takes the same batches.
        @functools.partial(tf.function, reduce_retracing=True)
        def forward(x: Any) -> None:
            model.distribute_strategy.run(lambda x: model(x, training=True), (x,))

        self._forward = forward

    def on_test_begin(self, logs: Any = None) -> None:
        self.recalibrate()

    def on_train_end(self, logs: Any = None) -> None:
        self._forward = None

    def recalibrate(self) -> None:
        """Take the averages again, during `fit` or after an interrupted one."""
        layers = [x for x in self.model._flatten_layers() if isinstance(x, TimeBatchNormalization)]
        plain = averages_of(self.model) and any(
            isinstance(x, keras.layers.BatchNormalization) for x in self.model._flatten_layers()
        )
        if not (layers or plain) or self._forward is None:
            return
        for layer in layers:
            layer.reset_averages()
        for x, _ in self.batches.take(self.steps):
            self._forward(x)
