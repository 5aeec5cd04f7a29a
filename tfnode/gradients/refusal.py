"""Derivatives that a gradient method does not have, refused where somebody asks for them."""

import tensorflow as tf

from tfnode.problem import Problem
from tfnode.solvers.custom_gradient import custom_gradient


def first_order_only(name: str, tensors: list, dependencies: list) -> list:
    """Return the tensors, which refuse to be differentiated in what they depend on."""
    return _without_gradient(
        tensors,
        dependencies,
        f"The gradient method '{name}' has no second derivatives, nor forward-mode "
        "ones, which TensorFlow takes as such: it was asked to differentiate its own result. "
        "Use gradient='backprop'.",
        f"{name}_has_no_second_derivatives",
    )


def refuse_lists(name: str, outputs: list, lists: list) -> list:
    """Return the outputs of a solve, which refuse to be differentiated in lists of tensors."""
    if not lists:
        return outputs
    (zero,) = _without_gradient(
        [tf.zeros([], outputs[0].dtype)],
        lists,
        "The dynamics close over a TensorArray, or another list of tensors, through which "
        f"the gradient '{name}' cannot flow. Let them close over its `stack()`, or "
        "use gradient='backprop'.",
        f"{name}_has_no_gradient_in_a_TensorArray",
    )
    return [outputs[0] + zero, *outputs[1:]]


def refuse_python(name: str, outputs: list, problem: Problem, values: list) -> list:
    """Return the outputs of a solve, which refuse to be differentiated through Python.

    TensorFlow takes the derivative of `tf.numpy_function` as zero. That of `tf.py_function`
    belongs to its last evaluation, which 'checkpoint', unlike 'adjoint', does not ask for.

    Args:
        values: The values of the sources of the vector field.
    """
    field, y0 = problem.vector_field, problem.y0
    for operation, positions in field.python.items():
        if operation != "EagerPyFunc":
            remedy = "tf.numpy_function, which has no derivative. Write them in TensorFlow"
        elif name == "checkpoint":
            remedy = "tf.py_function, which remembers one evaluation. Use gradient='adjoint'"
        else:
            continue
        message = f"The gradient '{name}' cannot go through the dynamics, which call {remedy}."
        short = f"{name}_has_no_gradient_through_Python"
        if operation == "EagerPyFunc" or not positions.isdisjoint(range(1, 1 + len(y0))):
            outputs = _without_gradient(outputs, outputs, message, short)
            continue
        inputs = {0: problem.times}
        inputs.update((1 + len(y0) + i, x) for (i, _), x in zip(field.sources, values))
        dependencies = [x for i, x in inputs.items() if i in positions]
        if dependencies:
            zeros = [tf.zeros([], outputs[0].dtype)]
            (zero,) = _without_gradient(zeros, dependencies, message, short)
            outputs = [outputs[0] + zero, *outputs[1:]]
    return outputs


def _without_gradient(tensors: list, dependencies: list, message: str, name: str) -> list:
    """Return the tensors; whoever differentiates them in the dependencies gets an error.

    XLA runs no Python: its error has the `name` alone.
    """
    graph = tf.compat.v1.get_default_graph()

    def fail():
        raise NotImplementedError(message)

    @custom_gradient
    def refuse(*dependencies):
        def grad(*upstream, variables=()):
            here = tf.compat.v1.get_default_graph()
            outer = getattr(here, "outer_graph", None)
            if here is graph or isinstance(outer, tf.__internal__.FuncGraph):
                fail()
            # Below a tape outside, TensorFlow traces the derivative of a `tf.function`
            # whether or not anyone will ask for it, so only running it may fail.
            with tf.control_dependencies([tf.py_function(fail, [], [], name)]):
                return [tf.zeros_like(x) for x in dependencies]

        return [tf.identity(x) for x in tensors], grad

    return refuse(*dependencies)
