"""`SeriesGrid`: an irregular series on a regular grid."""

from typing import Any

import keras
import tensorflow as tf

from tfnode import checks
from tfnode.layers.series import check_shapes, filled, last_observed, series
from tfnode.layers.series_layer import masked
from tfnode.solvers.failure import nan_where


@keras.saving.register_keras_serializable("tfnode")
class SeriesGrid(keras.layers.Layer):
    """An irregular series on a regular grid from its first time to its last.

    Each sample has a grid of its own times. An observation belongs to the nearest time of the
    grid. There the value of a channel is its last observation so far, and 0 before the first.

    Args:
        points: Number of times of the grid, an int.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values, times, mask: As in `tfnode.layers.ODERNN`.

    Input and output shape:
        `(batch, n, channels)` to `(batch, points, 2 * channels)`: the values, and for each of
        them 1 where it was observed and 0 where it was not. The output has no mask.

    Raises:
        ValueError: If `points` is out of range.
        tf.errors.InvalidArgumentError: If times known only at run time do not increase. XLA has
            no assertions: there the values are NaN.

    Example:
    ```python
    x = tfnode.layers.SeriesGrid(29)(values, times=times)
    ```
    """

    def __init__(self, points: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # It would round the times, too.
        self.supports_masking = True
        self.points = checks.integer("points", points, 1)

    def build(self, values_shape: tuple, times_shape: tuple | None = None) -> None:
        check_shapes(values_shape, times_shape)
        self.built = True

    @tf.autograph.experimental.do_not_convert
    def call(
        self,
        values: Any,
        times: Any = None,
        mask: Any = None,
        values_mask: Any = None,
        times_mask: Any = None,
    ) -> Any:
        wide = tf.float64 if self.compute_dtype == "float64" else tf.float32
        given = series(values, times, masked(mask, values_mask, times_mask), wide)
        first = given.times[:, :1]
        span = given.times[:, -1:] - first
        span = tf.where(span > 0, span, tf.ones_like(span))
        places = tf.round((given.times - first) / span * (self.points - 1))
        # The place in the grid of each time, and the last time at each place of the grid or before.
        places = tf.cast(places, tf.int32)
        grid = tf.range(self.points) + tf.zeros_like(places[:, :1])
        index = tf.searchsorted(places, grid, side="right") - 1
        last = tf.gather(last_observed(given.observed), tf.maximum(index, 0), batch_dims=1)
        # A choice among values would hide that the times do not increase.
        wrong = tf.reduce_any(tf.math.is_nan(given.times))
        found = nan_where(wrong, filled(given.values, given.observed, last))
        flat = tf.reshape(tf.maximum(last, 0), [tf.shape(last)[0], -1])
        there = tf.reshape(tf.gather(places, flat, batch_dims=1), tf.shape(last))
        observed = tf.equal(there, grid[..., tf.newaxis]) & (last >= 0)
        outputs = tf.concat([found, tf.cast(observed, wide)], 2)
        return tf.cast(outputs, self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # The grid has no padding.

    def compute_output_spec(self, values: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        del args, kwargs
        return keras.KerasTensor(self.compute_output_shape(values.shape), self.compute_dtype)

    def compute_output_shape(self, values_shape: tuple, times_shape: tuple | None = None) -> tuple:
        return (values_shape[0], self.points, 2 * values_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "points": self.points}
