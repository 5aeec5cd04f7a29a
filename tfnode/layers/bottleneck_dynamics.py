"""`BottleneckDynamics`: the vector field of the augmented Neural ODE on images."""

from typing import Any

import keras

from tfnode import checks
from tfnode.layers.concat_conv2d import ConcatConv2D


@keras.saving.register_keras_serializable("tfnode")
class BottleneckDynamics(keras.layers.Layer):
    """Convolutions 1x1, 3x3 and 1x1 with time as a channel, with the size of the state.

    ```
    dy/dt = conv1x1([t, relu(conv3x3([t, relu(conv1x1([t, y]))]))])
    ```

    The state may have few channels. The layers between have `filters`.

    Args:
        filters: Channels of the layers between, a positive int.
        activation: After the first two, as in `keras.layers.Conv2D`. The last is linear.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        t: Scalar.
        y: `(batch, height, width, channels)`.

    Input and output shape:
        `(), (batch, height, width, channels)` to `(batch, height, width, channels)`.

    Example:
    ```python
    block = tfnode.ODEBlock(tfnode.layers.BottleneckDynamics(64), solver="dopri5")
    ```

    Reference: Dupont, Doucet, Teh, *Augmented Neural ODEs* (2019), section 5.2 and its code.
    """

    def __init__(self, filters: int, activation: Any = "relu", **kwargs: Any) -> None:
        # The time is not rounded to half precision along with the state.
        super().__init__(autocast=False, **kwargs)
        self.filters = filters = checks.integer("filters", filters, 1, "a positive int")
        self.activation = keras.activations.get(activation)
        self.hidden = [
            ConcatConv2D(filters, size, activation=self.activation, dtype=self.dtype_policy)
            for size in (1, 3)
        ]

    def build(self, t_shape: tuple, y_shape: tuple) -> None:
        self.readout = ConcatConv2D(y_shape[-1], 1, dtype=self.dtype_policy)
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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
        }
