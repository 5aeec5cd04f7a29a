"""`AverageWeights`: what is validated and saved is the average of the weights."""

import keras


class AverageWeights(keras.callbacks.Callback):
    """Puts the optimizer's averages of the weights into the model where it is judged.

    For an optimizer with `use_ema=True`: training goes on with the weights of the last
    step, while the model is validated, and saved by the callbacks after this one, with the
    exponential average of the weights. At the end of `fit` Keras itself leaves the averages
    in the model. Nothing happens with another optimizer.

    `keras.callbacks.SwapEMAWeights` exchanges the two by sums and differences, which rounds
    them, so that a run that is resumed is not the one that was never broken off. Here they are
    copied.

    Args:
        model: For use before `fit`, which sets it by itself.

    Give it after callbacks that save what training goes on from, and before those that
    adapt the model to its weights, such as `Recalibrate`, and that save it for use.

    Example:
    ```python
    model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.99), "mse")
    model.fit(x, y, validation_data=data, callbacks=[tfnode.callbacks.AverageWeights()])
    ```

    Reference: Polyak, Juditsky, *Acceleration of Stochastic Approximation by Averaging* (1992).
    """

    def __init__(self, model=None):
        super().__init__()
        self._kept = None
        if model is not None:
            self.set_model(model)

    def on_test_begin(self, logs=None):
        self.put_in()

    def on_test_end(self, logs=None):
        self.take_out()

    def on_epoch_end(self, epoch, logs=None):
        self.put_in()

    def on_epoch_begin(self, epoch, logs=None):
        self.take_out()

    def on_train_end(self, logs=None):
        self._kept = None

    def put_in(self):
        """The model gets the averages, if it does not have them."""
        averages = averages_of(self.model)
        if averages and self._kept is None:
            self._kept = [w.value.read_value() for w in self.model.trainable_variables]
            self._assign(averages)

    def take_out(self):
        """The model gets back the weights of the last step."""
        if self._kept is not None:
            self._assign(self._kept)
            self._kept = None

    def _assign(self, values):
        for variable, value in zip(self.model.trainable_variables, values):
            variable.assign(value)


def averages_of(model):
    """The variables with the averages of a compiled model's weights; `None` without.

    There are none before the first step, either.
    """
    # In float16 the optimizer is within one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer.use_ema and optimizer.built:
        return optimizer._model_variables_moving_average
    return None
