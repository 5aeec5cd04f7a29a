"""`ConvDynamics`: the vector field of the paper's image classifier."""

from collections.abc import Sequence
from typing import Any

import keras

from tfnode import checks
from tfnode.layers.concat_conv2d import ConcatConv2D
from tfnode.layers.fused_batch_normalization import FusedBatchNormalization
from tfnode.layers.time_batch_normalization import TimeBatchNormalization

NORMS = ("batch", "group", "layer", None)


def normalization(
    norm: str | None, channels: int, dtype: Any = None, group_size: int = 2
) -> keras.layers.Layer | None:
    """Return the normalisation layer that an option of `norm` stands for, or `None`.

    Args:
        norm, group_size: As in `ConvDynamics`.
        channels: Those of its input.
        dtype: Its dtype policy.

    Raises:
        ValueError: For an unknown option.
    """
    if norm == "batch":
        return FusedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)
    if norm == "group":
        # The code of Chen et al. has 32 groups of two channels.
        most = min(32, max(channels // group_size, 1))
        groups = next(g for g in range(most, 0, -1) if channels % g == 0)
        return keras.layers.GroupNormalization(groups, epsilon=1e-5, dtype=dtype)
    if norm == "layer":
        # It is over the whole image, as group normalisation with one group is.
        return keras.layers.GroupNormalization(1, epsilon=1e-5, dtype=dtype)
    if norm is None:
        return None
    raise ValueError(f"`norm` must be one of {NORMS}. Received: norm={norm!r}")


@keras.saving.register_keras_serializable("tfnode")
class ConvDynamics(keras.layers.Layer):
    """Two convolutions with time as a channel, each with ReLU and a normalisation.

    ```
    dy/dt = norm(relu(conv([t, norm(relu(conv([t, y])))])))
    ```

    Args:
        filters: Channels of the state and of the layer between, a positive int.
        kernel_size: An int or a pair of ints.
        norm: `"batch"` (`TimeBatchNormalization`), `"group"`, `"layer"`, or `None`.
        renorm: Whether batch normalisation trains as it infers, as in `TimeBatchNormalization`.
            Nothing else has a use for it.
        group_size: The least channels in a group of group normalisation, a positive int. Groups of
            one make the mean of every channel of `dy/dt` the same for all images, so that an
            average over the image, as at the end of `odenet`, learns nothing from the block.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        t: Scalar.
        y: `(batch, height, width, filters)`.
        training: As in any layer.

    Input and output shape:
        `(), (batch, height, width, filters)` to `(batch, height, width, filters)`.

    Raises:
        ValueError: If the state does not have `filters` channels.

    Example:
    ```python
    block = tfnode.ODEBlock(tfnode.layers.ConvDynamics(64, norm="group"), solver="rk38")
    ```

    Reference: Chen et al. (2018), section 3.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int] = 3,
        norm: str | None = "batch",
        renorm: bool = True,
        group_size: int = 2,
        **kwargs: Any,
    ) -> None:
        # The time is not rounded to half precision along with the state.
        super().__init__(autocast=False, **kwargs)
        self.filters = filters = checks.integer("filters", filters, 1, "a positive int")
        self.norm = norm
        self.convolutions = [
            ConcatConv2D(
                filters, kernel_size, activation="relu", use_bias=False, dtype=self.dtype_policy
            )
            for _ in range(2)
        ]
        self.kernel_size = self.convolutions[0].kernel_size
        self.renorm = renorm
        self.group_size = checks.integer("group_size", group_size, 1, "a positive int")
        self.norms = [self._normalization() for _ in range(2)]

    def _normalization(self) -> keras.layers.Layer | None:
        if self.norm == "batch":
            return TimeBatchNormalization(renorm=self.renorm, dtype=self.dtype_policy)
        return normalization(self.norm, self.filters, self.dtype_policy, self.group_size)

    def build(self, t_shape: tuple, y_shape: tuple) -> None:
        if y_shape[-1] != self.filters:
            raise ValueError(
                "The state must have as many channels as the dynamics have filters, since "
                f"the derivative has them. Received: filters={self.filters}, y of shape {y_shape}"
            )
        for convolution, norm in zip(self.convolutions, self.norms):
            convolution.build(t_shape, y_shape)
            if isinstance(norm, TimeBatchNormalization):
                norm.build(t_shape, y_shape)
            elif norm is not None:
                norm.build(y_shape)
        self.built = True

    def call(self, t: Any, y: Any, training: bool | None = None) -> Any:
        for convolution, norm in zip(self.convolutions, self.norms):
            y = convolution(t, y)
            if isinstance(norm, TimeBatchNormalization):
                y = norm(t, y, training=training)
            elif norm is not None:
                y = norm(y)
        return y

    def compute_output_shape(self, t_shape: tuple, y_shape: tuple) -> tuple:
        return y_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "norm": self.norm,
            "renorm": self.renorm,
            "group_size": self.group_size,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ConvDynamics":
        """Return the layer; groups of what was saved without their size have one channel."""
        return cls(**{"group_size": 1, **config})
