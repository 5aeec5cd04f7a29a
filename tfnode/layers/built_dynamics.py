"""The dynamics of an `ODEBlock`: their layers built, and the variables that they read found."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfnode.problem import Problem
from tfnode.problem.field.calls import caller, converted


def symbols(shapes: Any, dtype: str, dtypes: Sequence[str] = ()) -> Any:
    """Return a nest of shapes as symbolic tensors, and `None` as it is.

    Args:
        shapes: The nest.
        dtype: The dtype of all.
        dtypes: That of each, instead.
    """
    if shapes is None:
        return None
    every = keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, dtype), shapes)
    if not dtypes:
        return every
    told = [keras.KerasTensor(x.shape, d) for x, d in zip(keras.tree.flatten(every), dtypes)]
    return keras.tree.pack_sequence_as(every, told)


def build_layer(
    dynamics: keras.layers.Layer,
    state: Any,
    context: Any,
    time_dtype: str,
    time_shape: tuple = (),
) -> None:
    """Call the dynamics on symbols, which builds every layer in them.

    Args:
        dynamics: The layer.
        state: A nest of symbolic tensors.
        context: Another, or `None`.
        time_dtype: The dtype of the time.
        time_shape: Its shape: that of a scalar, or `(batch,)`.

    Raises:
        ValueError: If a layer has an activity regularizer, or the derivative another shape than
            the state.
    """
    refuse_activity_regularizers(dynamics)
    time, told = keras.KerasTensor(time_shape, time_dtype), [] if context is None else [context]
    derivative = caller(dynamics, bool(told))(time, state, *told)
    shapes = [keras.tree.map_structure(lambda x: tuple(x.shape), x) for x in (derivative, state)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "The dynamics must return the shape of the state, since they are its derivative. "
            f"Received: {dynamics.name} with output {shapes[0]} for state {shapes[1]}"
        )


def refuse_activity_regularizers(dynamics: keras.layers.Layer) -> None:
    """Raise `ValueError` if a layer has one: its loss would belong to an evaluation in a loop."""
    for layer in dynamics._flatten_layers():
        if layer.activity_regularizer is not None:
            raise ValueError(
                "Layers in the dynamics cannot have an activity regularizer; an `ODEBlock` takes "
                f"`tfnode.regularizers` for the path. Received: {layer.name} with "
                f"activity_regularizer={layer.activity_regularizer}"
            )


def warn_of_unregistered(dynamics: Callable) -> None:
    """Warn of a function that a saved model could not find again."""
    name = getattr(dynamics, "__name__", "<lambda>")
    if isinstance(dynamics, keras.layers.Layer) or name == "<lambda>":
        return  # Keras warns of a lambda itself.
    if keras.saving.get_registered_name(dynamics) == name:
        warnings.warn(
            f"The dynamics {name!r} are a function that Keras does not know by name, so that a "
            "saved model cannot be loaded. Put `@keras.saving.register_keras_serializable()` above "
            "the function.",
            UserWarning,
            stacklevel=3,
        )


def closed_over(
    dynamics: Callable, state: Any, context: Any, own_times: bool = False
) -> list[keras.Variable]:
    """Return the Keras variables that a plain callable reads.

    Args:
        dynamics: The callable.
        state: A nest of symbolic tensors.
        context: Another, or `None`.
        own_times: Whether each sample has its own times, so that the time is `(batch,)`.

    Raises:
        ValueError: If it reads a `tf.Variable` that is no Keras variable.
    """
    func, fields = converted(dynamics), []

    @tf.function(autograph=False)
    def trace(state: Any, context: Any) -> None:
        options = {"independent": own_times, "context": context}
        problem = Problem(func, state, lambda dtype: tf.zeros([1], dtype), **options)
        fields.append(problem.vector_field)

    trace.get_concrete_function(
        *tf.nest.map_structure(
            lambda x: None if x is None else tf.TensorSpec(x.shape, x.dtype), (state, context)
        )
    )
    (field,) = fields
    known = {id(variable._value) for variable in field.variables}
    for _, source in field.sources:
        if isinstance(source, tf.Variable) and id(source) not in known:
            raise ValueError(
                "The dynamics of an ODEBlock read a tf.Variable, which Keras neither trains "
                "nor saves. Make it a weight of a layer, by `add_weight`, or a "
                f"`keras.Variable`. Received: dynamics that read {source.name}"
            )
    return field.variables
