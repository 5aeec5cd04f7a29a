"""`ConcatDense`: a dense layer with time as an extra input."""

from typing import Any

import keras
from keras import ops

from tfnode import checks


@keras.saving.register_keras_serializable("tfnode")
class ConcatDense(keras.layers.Layer):
    """Dense layer of the state with the time as one more input.

    ```
    outputs = activation(concat([t, y]) @ kernel + bias)
    ```

    The row of the kernel that belongs to the time is a shift of the bias, so nothing is
    concatenated.

    Args:
        units: Size of the output, a positive int.
        activation: As in `keras.layers.Dense`.
        use_bias: Whether to add a bias.
        kernel_initializer, bias_initializer: As in `keras.layers.Dense`. The kernel has
            the shape `(1 + channels, units)`, the row of the time first.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        t: Scalar, or `(batch,)`, a time for each sample.
        y: `(batch, ..., channels)`.

    Input and output shape:
        `(), (batch, ..., channels)` to `(batch, ..., units)`.

    Example:
    ```python
    dy = tfnode.layers.ConcatDense(2, "tanh")(t, y)
    ```

    Reference: Grathwohl et al., *FFJORD* (2019), section 4.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        # The time is not rounded to half precision along with the state.
        super().__init__(autocast=False, **kwargs)
        self.units = checks.integer("units", units, 1, "a positive int")
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, t_shape: tuple, y_shape: tuple) -> None:
        self.kernel = self.add_weight(
            shape=(1 + y_shape[-1], self.units), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.units,), initializer=self.bias_initializer, name="bias"
            )
        self.built = True

    def call(self, t: Any, y: Any) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        t = ops.cast(t, kernel.dtype)
        if len(t.shape) == 1:
            t = ops.reshape(t, (-1, *[1] * (len(y.shape) - 1)))
        shift = t * kernel[0]  # (units,), or (batch, ..., units)
        if self.bias is not None:
            shift = shift + self.bias
        y, kernel, shift = (ops.cast(x, self.compute_dtype) for x in (y, kernel[1:], shift))
        return self.activation(ops.matmul(y, kernel) + shift)

    def compute_output_shape(self, t_shape: tuple, y_shape: tuple) -> tuple:
        return (*y_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
