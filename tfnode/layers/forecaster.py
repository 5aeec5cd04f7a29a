"""`Forecaster`: a recurrent network that goes on with a time series."""

from typing import Any

import keras
from keras import ops

from tfnode import checks
from tfnode.layers.backward_encoder import observed_times, recurrent_cell

# Times in this many steps are near 1 for the network.
GAP = 10.0


@keras.saving.register_keras_serializable("tfnode")
class Forecaster(keras.layers.Layer):
    """A recurrent network that forecasts each point of a series from those before it.

    ```
    h = tanh(W [y, gap] + U h + b),   forecast = R h + r
    ```

    where `y` is the point before and `gap` the time since then. Within the series, `y` is the
    last observed point. So every forecast is one step ahead where all is observed, and a point
    that is not observed changes nothing. Behind the series, `y` is the last forecast. Nothing
    is known before the first observed point, so the output there is that point.

    Args:
        units: Size of the state `h`, an int.
        cell: `"simple"`, the recurrence above, or `"gru"` in its place.
        **kwargs: Those of `keras.layers.Layer`.

    Input and output shape:
        `(batch, times, channels + 1)`, the last channel 1 where the time is observed and 0
        where it is not, to `(batch, 2 * times, channels)`. Times that a mask excludes count as
        not observed. The mask of the output has them and every time behind the series.

    Example:
    ```python
    forecasts = tfnode.layers.Forecaster(25)(keras.Input((100, 3)))
    ```

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 5.1, the second recurrent network.
    """

    def __init__(self, units: int, cell: str = "simple", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = checks.integer("units", units, 1)
        self.cell = cell

    def build(self, input_shape: tuple) -> None:
        times, channels = input_shape[1], input_shape[2] - 1
        cell = recurrent_cell(self.cell, self.units, self.dtype_policy)
        cell = _Cell(cell, channels, dtype=self.dtype_policy)
        self.rnn = keras.layers.RNN(cell, return_sequences=True, dtype=self.dtype_policy)
        self.rnn.build((input_shape[0], 2 * times, channels + 2))
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        observed = observed_times(inputs, mask)
        x = ops.where(observed, inputs, 0.0)  # Its last channel says what is observed.
        x = ops.concatenate([x, ops.zeros_like(x[..., :1])], axis=-1)
        # Nothing is observed behind the series. Forecasts take the place of points.
        behind = ops.concatenate([ops.zeros_like(x[..., :-1]), ops.ones_like(x[..., :1])], axis=-1)
        return self.rnn(ops.concatenate([x, behind], axis=1))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if previous_mask is None:
            return None
        return ops.concatenate([previous_mask, ops.ones_like(previous_mask)], axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], 2 * input_shape[1], input_shape[2] - 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "cell": self.cell}


class _Cell(keras.layers.Layer):
    """One time of a `Forecaster`.

    Its inputs are the point, whether it is observed, and whether it is behind the series. Its
    states are that of the network, the point before, the steps since then, and whether there
    is such a point.
    """

    def __init__(self, cell: keras.layers.Layer, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.state_size = [cell.units, channels, 1, 1]
        self.output_size = channels
        self.cell = cell
        self.readout = keras.layers.Dense(channels, dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        self.cell.build((input_shape[0], self.channels + 1))
        self.readout.build((input_shape[0], self.state_size[0]))
        self.built = True

    def call(self, inputs: Any, states: Any) -> Any:
        hidden, before, gap, begun = states
        point, observed, behind = ops.split(inputs, [self.channels, self.channels + 1], axis=-1)
        gap = gap + 1.0
        new, _ = self.cell(ops.concatenate([before, gap / GAP], axis=-1), [hidden])
        forecast = ops.where(begun > 0, self.readout(new), point)
        moves = ops.maximum(observed, behind)
        hidden = ops.where(moves * begun > 0, new, hidden)
        before = ops.where(observed > 0, point, ops.where(behind > 0, forecast, before))
        return forecast, [hidden, before, gap * (1.0 - moves), ops.maximum(begun, observed)]
