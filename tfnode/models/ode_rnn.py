"""`ode_rnn`: a classifier of irregular time series by an `ODERNN`."""

from typing import Any

import keras

from tfnode.layers import ODERNN
from tfnode.models.series_inputs import classifier, noisy, series_inputs


def ode_rnn(
    input_shape: tuple[int | None, int] = (29, 12),
    num_classes: int = 9,
    *,
    units: int = 32,
    hidden_units: int = 32,
    cell: str = "gru",
    solver: Any = "rk4",
    num_steps: int | None = None,
    gradient: Any = "checkpoint",
    noise: float = 0.0,
) -> keras.Model:
    """Return the ODE-RNN classifier of Rubanova, Chen and Duvenaud, with logits out.

    ```
    values, times -> ODERNN -> last state -> dense
    ```

    The dynamics are a perceptron that does not depend on the time. With the defaults the model
    has 7,977 parameters.

    Args:
        input_shape: `(n, channels)`; `n` may be `None`.
        num_classes: Number of logits.
        units: Size of the state.
        hidden_units: Of the hidden layer of the dynamics.
        cell: `"gru"` or `"simple"`.
        solver: See `tfnode.layers.ODERNN`.
        num_steps: Steps of a fixed-step solver from each point to the next, `None` for one.
        gradient: See `tfnode.gradients`.
        noise: Standard deviation of normal noise on the values in training.

    Returns:
        A `keras.Model` of two inputs, `(values, times)`, see `tfnode.layers.ODERNN`: NaN is a
        missing value, and a series that ends early repeats its last time.

    Raises:
        ValueError: If an option is unknown or out of range.

    Reference: Rubanova, Chen, Duvenaud, *Latent ODEs for Irregularly-Sampled Time Series*
    (2019).
    """
    inputs = values, times = series_inputs(input_shape)
    dynamics = keras.Sequential(
        [keras.layers.Dense(hidden_units, "tanh"), keras.layers.Dense(units)], name="dynamics"
    )
    layer = ODERNN(units, dynamics, cell, solver, gradient, num_steps=num_steps, name="ode_rnn")
    return classifier("ode_rnn", inputs, layer(noisy(values, noise), times=times), num_classes)
