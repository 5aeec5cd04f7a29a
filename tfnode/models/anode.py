"""`anode`: the augmented Neural ODE on images."""

from typing import Any

import keras

from tfnode import solvers
from tfnode.layers import Augment, BottleneckDynamics, ODEBlock


def anode(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    filters: int = 64,
    augment: int = 5,
    tol: float = 1e-3,
    gradient: Any = "checkpoint",
    regularizers: Any = (),
) -> keras.Model:
    """Return the augmented Neural ODE classifier of Dupont, Doucet and Teh, with logits out.

    ```
    image and channels of zeros -> ODE block on [0, 1] -> flatten, dense
    ```

    The state of the ODE is the image itself, with `augment` more channels for the flow to move
    through. With the defaults the model has 85,462 parameters. With `augment=0, filters=92` it
    is the plain Neural ODE that the paper compares with, of 85,316.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels within the dynamics, `tfnode.layers.BottleneckDynamics`.
        augment: Channels of zeros that are appended to the image.
        tol: Relative and absolute tolerance of the solver, `tfnode.solvers.Dopri5`.
        gradient: See `tfnode.gradients`.
        regularizers: Of the path, see `tfnode.ODEBlock`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an option is unknown or out of range.

    Reference: Dupont, Doucet, Teh, *Augmented Neural ODEs* (2019), section 5.2.
    """
    inputs = keras.Input(input_shape)  # (28, 28, 1)
    x = Augment(augment)(inputs)  # (28, 28, 6)
    solver = solvers.Dopri5(rtol=tol, atol=tol)
    x = ODEBlock(BottleneckDynamics(filters), solver, gradient, regularizers=regularizers)(x)
    x = keras.layers.Flatten()(x)
    outputs = keras.layers.Dense(num_classes, dtype="float32")(x)
    return keras.Model(inputs, outputs, name="anode")
