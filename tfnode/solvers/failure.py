"""Failed solves: an error, or NaN where XLA has no errors."""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from tfnode.solvers.custom_gradient import custom_gradient


class Caller(NamedTuple):
    """Who asked for a solve, for its error.

    Attributes:
        origin: The caller's time at the solver's time 0, a scalar or one for each sample; `None`
            where the two clocks agree.
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


def asserted(condition: tf.Tensor, data: list, summarize: int = 3) -> list[tf.Operation]:
    """Raise an error if a condition does not hold, when it is evaluated.

    Args:
        condition: A boolean scalar.
        data: The message: strings, and tensors.
        summarize: How many elements of each tensor are shown.

    Returns:
        What `tf.control_dependencies` takes.

    Raises:
        tf.errors.InvalidArgumentError: If it does not hold.
    """
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(condition, data, summarize)]
    if not condition:
        # TensorFlow's own message would begin with the condition.
        shown = [
            np.array2string(x.numpy(), threshold=summarize, edgeitems=summarize)
            if tf.is_tensor(x)
            else str(x)
            for x in data
        ]
        raise tf.errors.InvalidArgumentError(None, None, " ".join(shown))
    return []


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
    with tf.control_dependencies(asserted(~failed, [f"{message} Received:", *facts], summarize)):
        # Not under XLA alone: what is traced without it may be compiled by it later.
        return tf.nest.map_structure(lambda x: nan_where(failed, x), results)


def raised(title: str, failed: tf.Tensor, reasons: list, facts: list) -> list:
    """Return what raises the error of a failed solve, for `tf.control_dependencies`.

    Args:
        title: The beginning of the message.
        failed: Whether the solve failed: a boolean scalar, or one for each sample.
        reasons: `(reason and what to do, whether it is this one)` pairs, the latter like `failed`.
        facts: Names, each before its value, which is like `failed`.
    """

    def tell() -> tf.Tensor:
        checks: list = []
        for reason, holds in reasons:
            found, told = failed & holds, facts
            if failed.shape.rank:
                here = tf.where(found)[:, 0]
                told = ["failed samples =", tf.math.count_nonzero(failed), "of =", tf.size(failed)]
                told += ["those with this reason =", tf.size(here), "by index =", here]
                told += [tf.gather(x, here) if tf.is_tensor(x) else x for x in facts]
            message = f"{title}: {reason} Received:"
            checks += asserted(~tf.reduce_any(found), [message, *told], 5)
        with tf.control_dependencies(checks):
            return tf.constant(True)

    # One branch that is not taken costs less than a check of every reason.
    return [tf.cond(tf.reduce_any(failed), tell, lambda: tf.constant(False))]


def finite(tensors: list[tf.Tensor], samples: bool = False) -> tf.Tensor:
    """Return whether no element of a list of tensors is NaN or infinite.

    Returns:
        A boolean scalar, or one boolean for each of the `samples` on the first axis.
    """
    axes = [list(range(1, x.shape.rank)) if samples else None for x in tensors]
    flags = [tf.reduce_all(tf.math.is_finite(x), axis) for x, axis in zip(tensors, axes)]
    return tf.reduce_all(flags, 0)


def nan_samples(failed: tf.Tensor, x: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Return `x` with NaN in the samples that failed.

    Their gradient is NaN, too, but 0 where the gradient that arrives is 0: a loss that leaves
    them out has its own gradient.

    Args:
        failed: `(batch,)`.
        x: A float tensor.
        axis: The axis of the batch in `x`.
    """
    shape = [1] * axis + [-1] + [1] * (x.shape.rank - axis - 1)

    @custom_gradient
    def spoil(x: tf.Tensor, flags: tf.Tensor) -> tuple:
        def grad(cotangent: tf.Tensor) -> tuple:
            lost = (flags > 0.0) & tf.not_equal(cotangent, 0.0)
            return tf.where(lost, tf.constant(math.nan, cotangent.dtype), cotangent), None

        return tf.where(flags > 0.0, tf.constant(math.nan, x.dtype), x), grad

    result = spoil(x, tf.cast(tf.reshape(failed, shape), x.dtype))
    result.set_shape(x.shape)
    return result


def nan_where(failed: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return `x`, a float tensor, or NaN if something failed that could not be raised.

    A product, so that the gradients through it are NaN, too; those of a selection would be 0.
    """
    return x * tf.where(failed, tf.constant(math.nan, x.dtype), 1.0)
