"""`Augment`: extra dimensions for the state."""

from typing import Any

import keras
from keras import ops

from tfnode import checks


@keras.saving.register_keras_serializable("tfnode")
class Augment(keras.layers.Layer):
    """Extra channels of the state, which begin as zeros.

    The flow of an ODE is a homeomorphism, so trajectories cannot cross; in the augmented
    space they can pass beside each other.

    ```
    outputs = concat([inputs, 0], axis=-1)
    ```

    Args:
        n: How many channels to append, an int of at least 0.
        **kwargs: Those of `keras.layers.Layer`.

    Input and output shape:
        `(batch, ..., channels)` to `(batch, ..., channels + n)`, in the dtype that the layer
        computes in. A mask is passed on.

    Example:
    ```python
    y = tfnode.layers.Augment(5)(x)  # 28x28x1 becomes 28x28x6
    ```

    Reference: Dupont, Doucet, Teh, *Augmented Neural ODEs* (2019).
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.n = checks.integer("n", n, 0)

    def call(self, inputs: Any) -> Any:
        # Integers become floats, as a state must be.
        inputs = ops.cast(inputs, self.compute_dtype)
        return ops.pad(inputs, [[0, 0]] * (len(inputs.shape) - 1) + [[0, self.n]])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], input_shape[-1] + self.n)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n": self.n}
