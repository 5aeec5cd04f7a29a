"""`neural_cde`: a classifier of irregular time series by a `NeuralCDE`."""

from typing import Any

import keras

from tfnode import checks
from tfnode.layers import NeuralCDE
from tfnode.models.series_inputs import classifier, noisy, series_inputs


def neural_cde(
    input_shape: tuple[int | None, int] = (29, 12),
    num_classes: int = 9,
    *,
    units: int = 16,
    hidden_units: int = 32,
    hidden_layers: int = 1,
    path: str = "hermite",
    solver: Any = "rk4",
    num_steps: int | None = None,
    gradient: Any = "checkpoint",
    noise: float = 0.0,
) -> keras.Model:
    """Return the neural CDE classifier of Kidger, Morrill, Foster and Lyons, with logits out.

    ```
    values, times -> path -> NeuralCDE -> last state -> dense
    ```

    With the defaults the model has 7,769 parameters.

    Args:
        input_shape: `(n, channels)`; `n` may be `None`.
        num_classes: Number of logits.
        units: Size of the state.
        hidden_units: Of each hidden layer of the field.
        hidden_layers: Number of hidden layers of the field, with ReLU. The last layer has tanh.
        path: `"hermite"`, `"linear"` or `"integral"`, see `tfnode.layers.NeuralCDE`.
        solver: See `tfnode.layers.NeuralCDE`.
        num_steps: Steps of a fixed-step solver from each point to the next, `None` for one.
        gradient: See `tfnode.gradients`.
        noise: Standard deviation of normal noise on the values in training.

    Returns:
        A `keras.Model` of two inputs, `(values, times)`, see `tfnode.layers.NeuralCDE`: NaN is a
        missing value, and a series that ends early repeats its last time.

    Raises:
        ValueError: If an option is unknown or out of range.

    Reference: Kidger, Morrill, Foster, Lyons, *Neural Controlled Differential Equations for
    Irregular Time Series* (2020).
    """
    inputs = values, times = series_inputs(input_shape)
    checks.integer("hidden_layers", hidden_layers, 0)
    hidden = [keras.layers.Dense(hidden_units, "relu") for _ in range(hidden_layers)]
    end = keras.layers.Dense(units * (input_shape[1] + 1), "tanh")
    field = keras.Sequential([*hidden, end], name="field")
    layer = NeuralCDE(units, field, path, solver, gradient, num_steps=num_steps, name="neural_cde")
    return classifier("neural_cde", inputs, layer(noisy(values, noise), times=times), num_classes)
