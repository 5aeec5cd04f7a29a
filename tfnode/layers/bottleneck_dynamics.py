"""`BottleneckDynamics`: the vector field of the augmented Neural ODE on images."""

from typing import Any

import keras

from tfnode import checks
from tfnode.layers.concat_conv2d import ConcatConv2D
from tfnode.layers.sequential_dynamics import SequentialDynamics


@keras.saving.register_keras_serializable("tfnode")
class BottleneckDynamics(SequentialDynamics):
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
        super().__init__(**kwargs)
        self.filters = filters = checks.integer("filters", filters, 1, "a positive int")
        self.activation = keras.activations.get(activation)
        self.hidden = [
            ConcatConv2D(filters, size, activation=self.activation, dtype=self.dtype_policy)
            for size in (1, 3)
        ]

    def last_layer(self, channels: int) -> ConcatConv2D:
        return ConcatConv2D(channels, 1, dtype=self.dtype_policy)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
        }
