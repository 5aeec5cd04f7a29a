"""`gru`: the recurrent baseline for irregular time series."""

import keras

from tfnode.layers import DecayRNN
from tfnode.models.series_inputs import classifier, noisy, series_inputs


def gru(
    input_shape: tuple[int | None, int] = (29, 12),
    num_classes: int = 9,
    *,
    units: int = 34,
    cell: str = "gru",
    noise: float = 0.0,
) -> keras.Model:
    """Return a GRU that is told the time since the last observation and decays, with logits out.

    ```
    values, times -> DecayRNN -> last state -> dense
    ```

    With the defaults the model has 7,693 parameters.

    Args:
        input_shape: `(n, channels)`; `n` may be `None`.
        num_classes: Number of logits.
        units: Size of the state.
        cell: `"gru"` or `"simple"`.
        noise: Standard deviation of normal noise on the values in training.

    Returns:
        A `keras.Model` of two inputs, `(values, times)`, see `tfnode.layers.DecayRNN`: NaN is a
        missing value, and a series that ends early repeats its last time.

    Raises:
        ValueError: If an option is unknown or out of range.

    Reference: Che, Purushotham, Cho, Sontag, Liu, *Recurrent Neural Networks for Multivariate
    Time Series with Missing Values* (2018).
    """
    inputs = values, times = series_inputs(input_shape)
    features = DecayRNN(units, cell, name="gru")(noisy(values, noise), times=times)
    return classifier("gru", inputs, features, num_classes)
