"""`SeriesRNN`: a recurrent network whose state moves between the points of a series."""

from typing import Any

import keras
import tensorflow as tf
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from tfnode.layers.backward_encoder import recurrent_cell
from tfnode.layers.series import Series
from tfnode.layers.series_layer import SeriesLayer, scan
from tfnode.layers.solve_costs import no_cost


class SeriesRNN(SeriesLayer):
    """Base of the recurrent layers for irregular series.

    A subclass says in `move` how the state moves over a gap, and in `features` what the cell sees
    of a point. The state changes at a point only if a channel was observed there.

    Args:
        units: Size of the state, an int.
        cell: `"gru"`, `"simple"`, or a cell of Keras. Its first state has `units` components and
            is its output.
        return_sequences: Whether to return the states at all times or the last one.
        go_backwards: Whether the series is read from the last point to the first. The sequence
            of states is then in that order, as in Keras's recurrent layers.
        **kwargs: Those of `keras.layers.Layer`.

    Raises:
        ValueError: If the cell is unknown or a stack of cells, or its state of another size.
    """

    def __init__(
        self,
        units: int,
        cell: Any = "gru",
        return_sequences: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, return_sequences, **kwargs)
        self.go_backwards = go_backwards
        self.cell = cell
        if isinstance(cell, keras.layers.Layer):
            self.rnn_cell = cell
        else:
            self.rnn_cell = recurrent_cell(cell, self.units, self.dtype_policy)
        if isinstance(self.rnn_cell, keras.layers.StackedRNNCells):
            raise ValueError(
                "The output of the cell must be its first state, and that of stacked cells is "
                "their last. Stack layers instead, with `return_sequences=True`. Received: "
                f"cell={self.rnn_cell.name}"
            )
        if self._sizes[0] != self.units:
            raise ValueError(
                "The first state of the cell must have `units` components. Received: "
                f"units={units}, a cell with state_size={self.rnn_cell.state_size}"
            )

    @property
    def _sizes(self) -> list[int]:
        size = self.rnn_cell.state_size
        return list(size) if isinstance(size, (list, tuple)) else [size]

    def build_parts(self, batch: int | None, channels: int) -> None:
        self.rnn_cell.build((batch, self.num_features(channels)))

    def num_features(self, channels: int) -> int:
        """Return the number of features of a point."""
        raise NotImplementedError

    def features(self, given: Series) -> tf.Tensor:
        """Return the features of all points, `(batch, n, features)`, without NaN."""
        raise NotImplementedError

    def move(
        self, h: tf.Tensor, start: tf.Tensor, gap: tf.Tensor, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the state `h` after a gap, and what that cost, as by `GapSolve`.

        Args:
            h: `(batch, units)`.
            start, gap: `(batch,)`: the time of `h`, and the time that passes. It is negative
                where the series is read backward.
            training: As in any layer.
        """
        raise NotImplementedError

    def states(self, given: Series, training: bool | None) -> tf.Tensor:
        features, times = self.features(given), given.times
        starts, gaps = given.gaps()
        updates = tf.reduce_any(given.observed, 2, keepdims=True)

        def step(states: list, inputs: list) -> list:
            x, start, gap, updated = inputs
            h, cost = self.move(states[0], start, gap, training)
            states = [h, *states[1:-1]]
            _, new = self.rnn_cell(x, states)
            new = [tf.cast(a, b.dtype) for a, b in zip(keras.tree.flatten(new), states)]
            return [*[tf.where(updated, a, b) for a, b in zip(new, states)], cost]

        batch = tf.shape(times)[0]
        start = [tf.zeros(tf.stack([batch, size]), features.dtype) for size in self._sizes]
        for x in start:
            x.set_shape([times.shape[0], x.shape[1]])
        self._draw_masks(features[:, 0], start[0], training)
        found = scan(step, [*start, no_cost()], [features, starts, gaps, updates])
        self._draw_masks(None, None, training)
        if training is True:
            self.count_pass(found[-1])
        return found[0]

    def _draw_masks(self, x: Any, h: Any, training: bool | None) -> None:
        """Have the cell draw the masks of its dropout, once for all steps, or forget them."""
        cell = self.rnn_cell
        if not isinstance(cell, DropoutRNNCell):
            return
        cell.reset_dropout_mask()
        cell.reset_recurrent_dropout_mask()
        if training and x is not None:
            # The masks have the dtype of what they are drawn for.
            cell.get_dropout_mask(tf.cast(x, cell.compute_dtype))
            cell.get_recurrent_dropout_mask(tf.cast(h, cell.compute_dtype))

    def get_config(self) -> dict[str, Any]:
        cell = self.cell
        return {
            **super().get_config(),
            "cell": cell if isinstance(cell, str) else keras.saving.serialize_keras_object(cell),
            "go_backwards": self.go_backwards,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SeriesRNN":
        config = dict(config)
        for name in ("cell", "dynamics"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
