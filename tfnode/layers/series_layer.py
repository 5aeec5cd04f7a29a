"""`SeriesLayer`: what the layers for irregular time series share."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import set_keras_mask

from tfnode import checks
from tfnode.layers.series import Series, check_shapes, in_place, series


class SeriesLayer(keras.layers.Layer):
    """Base of the layers that follow a state along an irregular time series.

    A subclass creates its weights in `build_parts`, and computes in `states`.

    Args:
        units: Size of the state, an int.
        return_sequences: Whether to return the states at all times or the last one.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values: `(batch, n, channels)`. NaN is a missing value.
        times: `(batch, n)`, or `(n,)` where they are shared. Floats, strictly increasing; a row
            that ends early repeats its last time, and its values there are ignored. The default
            is 0, 1, 2, ...
        mask: `(batch, n)` booleans, or `None`. A masked step is padding, wherever it is: its
            value and its time have no effect. Masks that values or times carry are used, too.
    """

    go_backwards = False  # Whether the series is read from the last point to the first.

    def __init__(self, units: int, return_sequences: bool = False, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # It would round the times, too.
        self.supports_masking = True
        self.units = checks.integer("units", units, 1)
        self.return_sequences = return_sequences

    def build(self, values_shape: tuple, times_shape: tuple | None = None) -> None:
        check_shapes(values_shape, times_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: values_shape[2]})
        self.build_parts(values_shape[0], values_shape[2])
        self.built = True

    def build_parts(self, batch: int | None, channels: int) -> None:
        """Create the weights."""
        raise NotImplementedError

    def states(self, given: Series, training: bool | None) -> tf.Tensor:
        """Return the states after each point, `(batch, n, units)`, in the order of reading.

        Args:
            given: The `Series`, of values in `wide_dtype`, in the order of reading.
            training: As in any layer.
        """
        raise NotImplementedError

    def count_pass(self, costs: tf.Tensor) -> None:
        """Count a pass through the series in training, where the layer solves.

        Args:
            costs: int32, `(3, n)`: of each solve what `GapSolve` returns.
        """

    @property
    def wide_dtype(self) -> str:
        """The dtype of the state between the points: half precision would add up its rounding."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    @tf.autograph.experimental.do_not_convert
    def call(
        self,
        values: Any,
        times: Any = None,
        mask: Any = None,
        values_mask: Any = None,
        times_mask: Any = None,
        training: bool | None = None,
    ) -> Any:
        mask = masked(mask, values_mask, times_mask)
        given = series(values, times, mask, tf.as_dtype(self.wide_dtype))

        def states(*given: tf.Tensor) -> tf.Tensor:
            found = Series(*given)
            return self.states(found.backward() if self.go_backwards else found, training)

        outputs = traced_once(states, *given)
        if self.return_sequences:
            if self.go_backwards:
                outputs = tf.reverse(outputs, [1])
            outputs = in_place(outputs, mask, self.go_backwards)
            if self.go_backwards:
                outputs = tf.reverse(outputs, [1])
        else:
            some = tf.reduce_any(given.points, 1, keepdims=True)
            outputs = tf.where(some, outputs[:, -1], tf.zeros_like(outputs[:, -1]))
        outputs = tf.cast(outputs, self.compute_dtype)
        carried = self.compute_mask(values, mask)
        if carried is not None:
            # Keras itself would pass on one of several masks.
            set_keras_mask(outputs, carried)
        return outputs

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if not self.return_sequences or previous_mask is None:
            return None
        return keras.ops.flip(previous_mask, 1) if self.go_backwards else previous_mask

    def compute_output_spec(self, values: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        del args, kwargs
        return keras.KerasTensor(self.compute_output_shape(values.shape), self.compute_dtype)

    def compute_output_shape(self, values_shape: tuple, times_shape: tuple | None = None) -> tuple:
        length = values_shape[1:2] if self.return_sequences else ()
        return (values_shape[0], *length, self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "return_sequences": self.return_sequences,
        }


def masked(*masks: Any) -> tf.Tensor | None:
    """Return the steps that no mask leaves out, or `None` where there is no mask.

    Keras passes the mask that the values carry as `mask` where they are the only tensor. Else it
    passes those of the values and the times as `values_mask` and `times_mask`; that of times in a
    list is a list of `None`.
    """
    given = [x for x in masks if any(y is not None for y in keras.tree.flatten(x))]
    masks = tuple(tf.cast(x, tf.bool) for x in given)
    return tf.reduce_all(masks, 0) if masks else None


def traced_once(function: Callable, *arguments: tf.Tensor) -> Any:
    """Return the result of a function, traced in eager execution.

    Each solve traces its dynamics, so a loop of solves that runs eagerly traces them every time.
    """
    if tf.executing_eagerly():
        function = tf.function(function, autograph=False).get_concrete_function(*arguments)
    return function(*arguments)


def scan(
    step: Callable[[list, list], list], states: list[tf.Tensor], inputs: list[tf.Tensor]
) -> list[tf.Tensor]:
    """Return the states after each step of a recurrence.

    Args:
        step: `step(states, inputs) -> states`, with the inputs of one step.
        states: List of `(batch, ...)`, before the first step. Costs have another first axis.
        inputs: List of `(batch, n, ...)`.

    Returns:
        List of `(batch, n, ...)`.
    """

    def swapped(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])

    def checked(states: list, inputs: list) -> list:
        found = step(states, inputs)
        return [tf.ensure_shape(tf.cast(x, y.dtype), y.shape) for x, y in zip(found, states)]

    found = tf.scan(checked, [swapped(x) for x in inputs], states, parallel_iterations=1)
    return [swapped(x) for x in found]
