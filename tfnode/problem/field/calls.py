"""How the dynamics are called, and what they take and return."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.autograph.pyct import errors, parser

_STACK = ". A list holds several states. `tf.stack` joins its elements to one tensor."


def converted(func: Any) -> Any:
    """Return the function as AutoGraph converts it where this is called.

    In eager mode functions are converted, too, since they are traced there as well. Lambdas are
    not: they have no statements, and AutoGraph often cannot find their source.
    """
    if not callable(func) or isinstance(func, keras.layers.Layer):
        return func
    autograph = tf.__internal__.autograph
    context = autograph.control_status_ctx()
    if tf.executing_eagerly() and context.status.name == "UNSPECIFIED":
        if getattr(func, "__name__", "") == "<lambda>":
            return func
        context = type(context)(status=type(context.status).ENABLED)
    elif getattr(func, "__name__", "") == "<lambda>":
        # AutoGraph would say so, call after call, and take the lambda as it is.
        try:
            parser.parse_entity(func, ())
        except errors.PyCTError:
            return func
    return autograph.tf_convert(func, context)


def caller(func: Any, context: bool = False) -> Callable:
    """Return the dynamics as a function of `(t, y)`, or of `(t, y, context)`.

    Args:
        func: As in `tfnode.odeint`.
        context: Whether the dynamics take a context, a nest of tensors, as a third argument.

    Raises:
        ValueError: If the dynamics are not callable, or are a layer of other arguments.
    """
    if not callable(func):
        raise ValueError(
            "The dynamics must be a callable `func(t, y)`, a Keras layer or a Keras model. "
            f"Received: func={func!r}"
        )
    if not isinstance(func, keras.layers.Layer):
        return func
    # Functional models have one argument for all of their inputs.
    inputs = len(getattr(func, "inputs", None) or [None])
    arguments = [
        p
        for p in inspect.signature(func.call).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and p.name not in ("training", "mask")
    ]
    if (len(arguments), inputs) == (1, 1) and not context:
        return lambda t, y: func(y)
    if (len(arguments), inputs) == (1, 2 + context):
        return lambda *told: func([*told])
    if len(arguments) == 2 + context:
        return func
    wanted = (
        "three, the time, the state and the context: `call(self, t, y, context)`"
        if context
        else "one input, the state, or two, the time and the state: `call(self, t, y)`"
    )
    raise ValueError(
        f"A layer or model for the dynamics takes {wanted}. Received: {type(func).__name__} with "
        f"call{inspect.signature(func.call)} and {inputs} input(s)"
    )


def state_tensor(y: Any) -> tf.Tensor:
    """Return a part of the initial state as a tensor, checked."""
    if isinstance(y, keras.KerasTensor):
        raise ValueError(
            "`odeint` takes tensors with values. In a functional model use `tfnode.ODEBlock`, or "
            f"a layer whose `call` calls `odeint`. Received: a symbolic tensor of shape {y.shape}"
        )
    y = tf.convert_to_tensor(y)
    if y.dtype.is_complex:
        raise TypeError(
            "The state `y0` must be made of float tensors. Solve for the real and the imaginary "
            "part: `y0 = {'re': tf.math.real(z), 'im': tf.math.imag(z)}`, and `tf.complex` within "
            f"the dynamics. Received: dtype={y.dtype.name}, shape={y.shape}"
        )
    if not y.dtype.is_floating:
        raise TypeError(
            "The state `y0` must be made of float tensors; cast it first, for example by "
            f"`tf.cast(y0, tf.float32)`. Received: dtype={y.dtype.name}, shape={y.shape}"
        )
    return y


def derivative(dy: Any, y: Any) -> list[tf.Tensor]:
    """Return the leaves of `dy`, checked against the state `y`."""
    try:
        tf.nest.assert_same_structure(y, dy)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "The dynamics must return the structure of the state, since they are its "
            f"derivative. Received: {dy} for a state {y}"
            + (_STACK if isinstance(dy, (list, tuple)) != isinstance(y, (list, tuple)) else "")
        ) from error
    leaves = tf.nest.flatten(dy)
    if any(x is None for x in leaves):
        raise ValueError(
            "The dynamics must return the derivative of the state; is a `return` missing? "
            f"Received: {dy}"
        )
    leaves = [tf.convert_to_tensor(x) for x in leaves]
    for x, state in zip(leaves, tf.nest.flatten(y)):
        if not x.shape.is_compatible_with(state.shape):
            raise ValueError(
                "The dynamics must return the shape of the state, since they are its "
                f"derivative. Received: a derivative of shape {x.shape} for a state of "
                f"shape {state.shape}"
            )
        if not x.dtype.is_floating:
            raise TypeError(f"The dynamics must return floats. Received: dtype={x.dtype.name}")
    return leaves
