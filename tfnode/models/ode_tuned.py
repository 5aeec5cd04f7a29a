"""`ode_tuned`: a Neural ODE image classifier for the best accuracy per parameter and second."""

from typing import Any

import keras
from keras import layers

from tfnode.layers import ConvDynamics, ODEBlock
from tfnode.layers.conv_dynamics import normalization


def ode_tuned(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    filters: int = 48,
    norm: str | None = "batch",
    renorm: bool = True,
    group_size: int = 2,
    solver: Any = "midpoint",
    gradient: Any = "backprop",
    block: bool = True,
    num_steps: int | None = None,
) -> keras.Model:
    """Return a Neural ODE classifier with an ODE at each of two resolutions, with logits out.

    ```
    conv 3x3 -> conv 3x3 stride 2 -> ODE block -> conv 3x3 stride 2 -> ODE block
        -> average pool, dense
    ```

    Every convolution outside the blocks is followed by a norm and ReLU. With the defaults the
    states are 14x14x48 and 7x7x64, and 118,000 of the 157,000 weights that are trained are
    those of the two vector fields, `tfnode.layers.ConvDynamics`.

    As in `odenet`, `block=False` is the network without its ODE blocks, and
    `solver="euler", gradient="backprop"` has residual blocks of the same parameters in their
    place.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the first state; half of them in the stem, and a third more in the
            second state.
        norm: `"batch"`, `"group"`, `"layer"`, or `None`.
        renorm, group_size: As in `odenet`.
        solver: See `tfnode.solvers`; one step of the midpoint rule by default.
        gradient: See `tfnode.gradients`.
        block: Whether there are ODE blocks. Without them the solver and the gradient have no part.
        num_steps: Steps of a fixed-step solver that is given by its name; one by default.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an option is unknown.

    Reference: Chen et al. (2018), section 3, for the blocks; the rest is this project's, chosen
    on a validation split of MNIST's training set.
    """

    def convolution(x: Any, channels: int, strides: int) -> Any:
        x = layers.Conv2D(
            channels,
            3,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)
        norm_layer = normalization(norm, channels, group_size=group_size)
        return layers.ReLU()(x if norm_layer is None else norm_layer(x))

    inputs = keras.Input(input_shape)  # (28, 28, 1)
    x = convolution(inputs, max(filters // 2, 1), strides=1)  # (28, 28, 24)
    for channels in (filters, filters * 4 // 3):
        x = convolution(x, channels, strides=2)  # (14, 14, 48), (7, 7, 64)
        if block:
            dynamics = ConvDynamics(channels, norm=norm, renorm=renorm, group_size=group_size)
            x = ODEBlock(dynamics, solver=solver, gradient=gradient, num_steps=num_steps)(x)
    x = layers.GlobalAveragePooling2D()(x)  # (64,)
    outputs = layers.Dense(num_classes, dtype="float32")(x)
    return keras.Model(inputs, outputs, name="ode_tuned")
