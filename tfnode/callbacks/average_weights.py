"""`AverageWeights`: the average of the weights, for validating and saving."""

from collections.abc import Sequence
from typing import Any

import keras


class AverageWeights(keras.callbacks.Callback):
    """The optimizer's averages of the weights, put into the model where it is judged.

    The optimizer must have `use_ema=True`; nothing happens with another one. Training goes on
    with the weights of the last step. The model is validated, and saved by the callbacks after
    this one, with the exponential average of the weights. At the end of `fit` Keras itself
    leaves the averages in the model.

    `keras.callbacks.SwapEMAWeights` exchanges the two by sums and differences. That rounds them,
    so that a run that is resumed differs from one that was never interrupted. Here they are copied.

    Args:
        model: For use before `fit`, which sets it by itself.

    It belongs after callbacks that save the state of training. It belongs before those that adapt
    the model to its weights, such as `Recalibrate`, and before those that save it for use.

    Example:
    ```python
    model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.99), "mse")
    model.fit(x, y, validation_data=data, callbacks=[tfnode.callbacks.AverageWeights()])
    ```

    Reference: Polyak, Juditsky, *Acceleration of Stochastic Approximation by Averaging* (1992).
    """

    def __init__(self, model: keras.Model | None = None) -> None:
        super().__init__()
        self._kept: list[Any] | None = None
        if model is not None:
            self.set_model(model)

    def on_test_begin(self, logs: Any = None) -> None:
        self.put_in()

    def on_test_end(self, logs: Any = None) -> None:
        self.take_out()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.put_in()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.take_out()

    def on_train_end(self, logs: Any = None) -> None:
        self._kept = None

    def put_in(self) -> None:
        """Put the averages into the model, if it does not have them."""
        averages = averages_of(self.model)
        if averages and self._kept is None:
            self._kept = [w.value.read_value() for w in self.model.trainable_variables]
            self._assign(averages)

    def take_out(self) -> None:
        """Put the weights of the last step back into the model."""
        if self._kept is not None:
            self._assign(self._kept)
            self._kept = None

    def _assign(self, values: Sequence[Any]) -> None:
        for variable, value in zip(self.model.trainable_variables, values):
            variable.assign(value)


def averages_of(model: keras.Model) -> list[Any] | None:
    """Return the averages of a compiled model's weights; `None` if it has none.

    There are none before the first step.
    """
    # In float16 another optimizer, which scales the loss, wraps it.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer.use_ema and optimizer.built:
        return optimizer._model_variables_moving_average
    return None
