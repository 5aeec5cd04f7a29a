"""`DenseDynamics`: a multilayer perceptron as a vector field."""

from collections.abc import Sequence
from typing import Any

import keras

from tfnode import checks
from tfnode.layers.concat_dense import ConcatDense
from tfnode.layers.sequential_dynamics import SequentialDynamics


@keras.saving.register_keras_serializable("tfnode")
class DenseDynamics(SequentialDynamics):
    """Multilayer perceptron of the state and the time, with the size of the state.

    Args:
        hidden_units: An int or a sequence of ints, the sizes of the hidden layers.
        activation: Of the hidden layers, as in `keras.layers.Dense`. The last is linear.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        t: Scalar.
        y: `(batch, ..., channels)`.

    Input and output shape:
        `(), (batch, ..., channels)` to `(batch, ..., channels)`.

    Example:
    ```python
    block = tfnode.ODEBlock(tfnode.layers.DenseDynamics([32, 32]), solver="rk4")
    ```
    """

    def __init__(
        self, hidden_units: int | Sequence[int], activation: Any = "tanh", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        units = [hidden_units] if checks.is_integer(hidden_units) else list(hidden_units)  # type: ignore
        units = [checks.integer("hidden_units", u, 1, "positive ints") for u in units]
        self.hidden_units = units
        self.activation = keras.activations.get(activation)
        self.hidden = [ConcatDense(u, self.activation, dtype=self.dtype_policy) for u in units]

    def last_layer(self, channels: int) -> ConcatDense:
        return ConcatDense(channels, dtype=self.dtype_policy)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
        }
