"""Failed solves: an error, or NaN where XLA has no errors."""

import math
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


class Caller(NamedTuple):
    """Who asked for a solve, for its error.

    Attributes:
        origin: Scalar, the caller's time at the solver's time 0; `None` for the same.
        during: What the solve is part of, a phrase such as " in the backward solve".
    """

    origin: Any = None
    during: str = ""

    def time(self, t: tf.Tensor) -> tf.Tensor:
        """Return the caller's time at a solver's time."""
        return t if self.origin is None else self.origin + t


USER = Caller()


def compiled_by_xla() -> bool:
    """Return whether what is being traced is compiled by XLA; TensorFlow does not export this."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    return graph is not None and control_flow_util.GraphOrParentsInXlaContext(graph)


def checked(results: Any, failed: tf.Tensor, message: str, *facts: Any, summarize: int = 3) -> Any:
    """Return the results, if all went well; else raise an error, or return NaN under XLA.

    Args:
        results: Any structure of float tensors.
        failed: A boolean scalar.
        message: What went wrong, and what to do.
        facts: What was received: names, each before its value.
        summarize: How many elements of each tensor are shown.

    Raises:
        tf.errors.InvalidArgumentError: If `failed`.
    """
    check = tf.debugging.Assert(~failed, [f"{message} Received:", *facts], summarize)
    with tf.control_dependencies([] if check is None else [check]):
        # Not under XLA alone: what is traced without it may be compiled by it later.
        return tf.nest.map_structure(lambda x: nan_where(failed, x), results)


def finite(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Return whether no element of a list of tensors is NaN or infinite, a boolean scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in tensors])


def nan_where(failed: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return `x`, a float tensor, or NaN if something failed that could not be raised.

    A product, so that the gradients through it are NaN, too; those of a selection would be 0.
    """
    return x * tf.where(failed, tf.constant(math.nan, x.dtype), 1.0)
