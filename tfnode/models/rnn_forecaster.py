"""`rnn_forecaster`: the baseline for time series."""

import keras

from tfnode.layers import Forecaster


def rnn_forecaster(
    input_shape: tuple[int, int] = (100, 3),
    *,
    units: int = 25,
    cell: str = "simple",
    scale: float = 5.0,
) -> keras.Model:
    """Return a recurrent network that forecasts points one by one, the baseline of Chen et al.

    It sees the time since the last point, as their second network does. See
    `tfnode.layers.Forecaster`.

    Args:
        input_shape: `(times, channels + 1)`, equidistant times, the last channel 1 where the
            time is observed and 0 where it is not.
        units: Size of the state.
        cell: `"simple"`, as published, or `"gru"`.
        scale: What channels are divided by, so that the network has numbers near 1.

    Returns:
        A `keras.Model` from `input_shape` to `(2 * times, channels)`: at the times of the
        series each forecast is from the observed points before; behind it from the series.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 5.1.
    """
    inputs = keras.Input(input_shape)  # (100, 3)
    channels = input_shape[1] - 1
    # The last channel, which says what is observed, stays.
    x = keras.layers.Rescaling([1.0 / scale] * channels + [1.0], dtype="float32")(inputs)
    x = Forecaster(units, cell, dtype="float32")(x)  # (200, 2)
    outputs = keras.layers.Rescaling(scale, dtype="float32")(x)
    return keras.Model(inputs, outputs, name="rnn_forecaster")
