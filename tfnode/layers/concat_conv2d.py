"""`ConcatConv2D`: a convolution with time as an extra input channel."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfnode import checks


@keras.saving.register_keras_serializable("tfnode")
class ConcatConv2D(keras.layers.Layer):
    """2-D convolution of the state with the time as one more channel, stride 1, same size.

    ```
    outputs = activation(conv(concat([t, y]), kernel) + bias)
    ```

    The channel of the time is constant in an image. So its share of the convolution is `t` times a
    map of the kernel's sums, which differ only at the border. The map is the product of the kernel
    with a constant, which says for each pixel which taps lie inside the image. Nothing is
    concatenated, and the large convolution keeps the number of channels of the state, which
    libraries of convolutions like better.

    Args:
        filters: Channels of the output, a positive int.
        kernel_size: An int or a pair of ints.
        activation: As in `keras.layers.Conv2D`.
        use_bias: Whether to add a bias.
        kernel_initializer, bias_initializer: As in `keras.layers.Conv2D`. The kernel has
            the shape `(*kernel_size, 1 + channels, filters)`, the time's channel first.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        t: Scalar, or `(batch,)`, a time for each sample.
        y: `(batch, height, width, channels)`.

    Input and output shape:
        `(), (batch, height, width, channels)` to `(batch, height, width, filters)`.

    Example:
    ```python
    dy = tfnode.layers.ConcatConv2D(64, 3, activation="relu")(t, y)
    ```

    Reference: Chen et al. (2018), `ConcatConv2d` in the code of the paper.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int] = 3,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        # The time is not rounded to half precision along with the state.
        super().__init__(autocast=False, **kwargs)
        self.filters = checks.integer("filters", filters, 1, "a positive int")
        pair = (kernel_size,) * 2 if checks.is_integer(kernel_size) else kernel_size
        size = tuple(pair) if isinstance(pair, (tuple, list)) else ()
        if len(size) != 2 or not all(checks.is_integer(k) and k > 0 for k in size):
            raise ValueError(
                "`kernel_size` must be a positive int or a pair of them. "
                f"Received: kernel_size={kernel_size!r}"
            )
        self.kernel_size = tuple(int(k) for k in size)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, t_shape: tuple, y_shape: tuple) -> None:
        if len(y_shape) != 4 or y_shape[-1] is None:
            raise ValueError(
                "ConcatConv2D takes a state of shape (batch, height, width, channels) with "
                f"known channels. Received: y of shape {y_shape}"
            )
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, 1 + y_shape[-1], self.filters),
            initializer=self.kernel_initializer,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.filters,), initializer=self.bias_initializer, name="bias"
            )
        self.built = True

    def call(self, t: Any, y: Any) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        taps = math.prod(self.kernel_size)
        # A convolution of one sample takes libraries a hundred times as long as the product.
        inside = ops.conv(
            ops.ones((1, *ops.shape(y)[1:3], 1), kernel.dtype),
            ops.reshape(ops.eye(taps, dtype=kernel.dtype), (*self.kernel_size, 1, taps)),
            padding="same",
        )  # (1, height, width, taps), which TensorFlow finds to be a constant.
        sums = ops.matmul(inside, ops.reshape(kernel[:, :, :1], (taps, self.filters)))
        t = ops.cast(t, kernel.dtype)
        if len(t.shape) == 1:
            t = ops.reshape(t, (-1, 1, 1, 1))
        shift = t * sums  # (1 or batch, height, width, filters)
        if self.bias is not None:
            shift = shift + self.bias
        y, kernel, shift = (ops.cast(x, self.compute_dtype) for x in (y, kernel[:, :, 1:], shift))
        return self.activation(ops.conv(y, kernel, padding="same") + shift)

    def compute_output_shape(self, t_shape: tuple, y_shape: tuple) -> tuple:
        return (*y_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
