"""`custom_gradient`: TensorFlow's, without its leak."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops


def custom_gradient(function: Callable) -> Callable:
    """Return `tf.custom_gradient(function)`, whose graphs end with their last user.

    In a graph `tf.custom_gradient` registers the gradient under a new name, for good. The gradient
    holds its graph, so a process that traces many solves would keep them all. Here the graph
    holds the gradient, and its name goes with it.
    """
    decorated = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        results = decorated(*arguments)
        first = tf.nest.flatten(results)[0]
        if not isinstance(first, tf.__internal__.EagerTensor):
            _give_to_graph(first.op)
        return results

    return call


def _give_to_graph(operation: tf.Operation) -> None:
    """Let the registry of gradients hold that of an operation as long as its graph lives."""
    name = operation.get_attr("_gradient_op_type").decode()
    entries = ops.gradient_registry._registry
    gradient: Any = weakref.ref(entries[name]["type"])
    owner = operation.graph
    # The graph of a loop or a branch ends before that of the function around it.
    while isinstance(getattr(owner, "outer_graph", None), tf.__internal__.FuncGraph):
        owner = owner.outer_graph
    owner._tfnode_gradients = [*getattr(owner, "_tfnode_gradients", []), entries[name]["type"]]

    # A SavedModel keeps gradients as functions of this name.
    def internal_grad_fn(operation: tf.Operation, *cotangents: Any) -> Any:
        return gradient()(operation, *cotangents)

    entries[name]["type"] = internal_grad_fn
    weakref.finalize(owner, entries.pop, name, None).atexit = False
