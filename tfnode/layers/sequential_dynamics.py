"""`SequentialDynamics`: layers of time and state, one after the other, as a vector field."""

from typing import Any

import keras


class SequentialDynamics(keras.layers.Layer):
    """Base of the vector fields that are layers `(t, y)`, one after the other.

    A subclass sets `hidden`, the layers before the last. The last one has the channels of the
    state.
    """

    hidden: list

    def __init__(self, **kwargs: Any) -> None:
        # The time is not rounded to half precision along with the state.
        super().__init__(autocast=False, **kwargs)

    def last_layer(self, channels: int) -> keras.layers.Layer:
        """Return the last layer."""
        raise NotImplementedError

    def build(self, t_shape: tuple, y_shape: tuple) -> None:
        self.readout = self.last_layer(y_shape[-1])
        shape = y_shape
        for layer in (*self.hidden, self.readout):
            layer.build(t_shape, shape)
            shape = layer.compute_output_shape(t_shape, shape)
        self.built = True

    def call(self, t: Any, y: Any) -> Any:
        for layer in (*self.hidden, self.readout):
            y = layer(t, y)
        return y

    def compute_output_shape(self, t_shape: tuple, y_shape: tuple) -> tuple:
        return y_shape
