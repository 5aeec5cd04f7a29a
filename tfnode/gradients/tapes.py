"""Gradient tapes: which take notice of a solve, and products with the field's Jacobian."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import record

from tfnode.problem.field.sources import value_of
from tfnode.solvers.solver import Solver

# TensorFlow exports no way to stop all tapes and let them go on.


def unrecorded(solver: Solver) -> contextlib.AbstractContextManager:
    """Return a context in which the tapes outside take no notice of a solve.

    A loop below a persistent tape, or below two, is built with all of its derivatives, and
    holds what they need, though a gradient method of ours has its own. Only the field goes
    on tapes, see `recorded`. The field may have tapes of its own. So may TFP's solvers, so they
    stay recorded.
    """
    return record.stop_recording() if solver.tells_steps else contextlib.nullcontext()


def recorded(function: Callable) -> Callable:
    """Return the function, recorded by tapes even where they are stopped."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if not pywrap_tfe.TFE_Py_TapeSetIsStopped():
            return function(*args, **kwargs)
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
        try:
            return function(*args, **kwargs)
        finally:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()

    return call


def cut(structure: Any) -> Any:
    """Return the structure with its tensors, through which no gradient flows any more.

    Where a tape is outside of a `tf.function`, TensorFlow differentiates what its backward
    pass needs of the forward pass, too.
    """
    return tf.nest.map_structure(lambda x: tf.stop_gradient(x) if tf.is_tensor(x) else x, structure)


def vjp(
    field: Callable, sources: Sequence[tf.Tensor], t: tf.Tensor, y: list, cotangents: list
) -> tuple[list, list, list]:
    """Return the field and its vector-Jacobian product, in the state and in the sources.

    Returns:
        `(dy, y_bar, sources_bar)`, lists of tensors; zeros where nothing connects.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([*y, *sources])
        dy = field(t, y)
    gradients = gradients_or_zeros(tape, dy, [*y, *sources], cotangents)
    return dy, gradients[: len(y)], gradients[len(y) :]


def gradients_or_zeros(tape: tf.GradientTape, dy: list, inputs: list, cotangents: list) -> list:
    """Return `tape.gradient`, with zeros where nothing connects."""
    gradients = tape.gradient(dy, inputs, cotangents)
    # A gather in the field gives IndexedSlices; what it does not depend on gives None.
    return [
        tf.zeros_like(value_of(x)) if g is None else tf.convert_to_tensor(g)
        for g, x in zip(gradients, inputs)
    ]


def inner(left: list, right: list, dtype: tf.DType) -> tf.Tensor:
    """Return the inner product of two lists of tensors, a scalar of the dtype."""
    return tf.add_n([tf.cast(tf.reduce_sum(a * b), dtype) for a, b in zip(left, right)])
