"""`BackwardEncoder`: a summary of a time series, read backward."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import checks

CELLS = {"simple": keras.layers.SimpleRNNCell, "gru": keras.layers.GRUCell}


def recurrent_cell(name: str, units: int, dtype: Any) -> keras.layers.Layer:
    """Return a new cell of Keras by its name in `CELLS`."""
    if name not in CELLS:
        raise ValueError(f"`cell` must be one of {list(CELLS)}. Received: cell={name!r}")
    return CELLS[name](units, dtype=dtype)


def observed_times(inputs: Any, mask: Any = None) -> Any:
    """Return which times of a series are observed, `(batch, times, 1)`.

    Args:
        inputs: `(batch, times, channels + 1)`, the last channel 1 where the time is observed.
        mask: `(batch, times)` booleans of Keras, or `None`. A masked time is not observed.
    """
    observed = inputs[..., -1:] > 0.5
    return observed if mask is None else ops.logical_and(observed, mask[..., None])


@keras.saving.register_keras_serializable("tfnode")
class BackwardEncoder(keras.layers.Layer):
    """A recurrent network that reads the observed points of a series from the last to the first.

    It sees each point with its time, as a fraction of the series. At times without an
    observation its state stays as it is, and the values there have no effect.

    Args:
        units: Size of the state, an int.
        cell: `"simple"`, the recurrence of the paper, `tanh(W x + U h + b)`, or `"gru"`, which
            remembers for longer.
        **kwargs: Those of `keras.layers.Layer`.

    Input and output shape:
        `(batch, times, channels + 1)`, the last channel 1 where the time is observed and 0
        where it is not, to `(batch, units)`. Times that a mask excludes count as not observed.

    Example:
    ```python
    h = tfnode.layers.BackwardEncoder(25)(keras.Input((100, 3)))
    ```

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 5 and algorithm 2.
    """

    def __init__(self, units: int, cell: str = "simple", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units = checks.integer("units", units, 1)
        self.cell = cell
        self.rnn = keras.layers.RNN(
            recurrent_cell(cell, units, self.dtype_policy),
            go_backwards=True,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: tuple) -> None:
        self.rnn.build((*input_shape[:2], input_shape[2] + 1))
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        observed = observed_times(inputs, mask)
        times = np.linspace(0.0, 1.0, inputs.shape[1])[:, np.newaxis]
        times = ops.broadcast_to(ops.cast(times, inputs.dtype), ops.shape(observed))
        # Values at the other times have no effect, NaN included.
        points = ops.where(observed, ops.concatenate([inputs, times], axis=-1), 0.0)
        return self.rnn(points, mask=observed[..., 0])

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # The output has no times.

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "cell": self.cell}
