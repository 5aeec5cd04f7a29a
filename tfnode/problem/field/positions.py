"""Whether the traced dynamics count the samples of a batch."""

import tensorflow as tf

from tfnode.problem.field.checks import PYTHON_OPERATIONS

# Operations that make positions of the size of a batch.
_RANGES = {"Range", "LinSpace"}
_LOOPS = {"While", "StatelessWhile"}
_SIZES = {"Shape", "ShapeN", "Size"}


def count_samples(graph: tf.Graph) -> bool:
    """Return whether the dynamics may tell samples by their positions in the batch.

    Such dynamics are others for a part of the batch. In doubt the answer is yes, which costs
    evaluations: a function that is called in Python may do anything, and so may a loop or a
    range in a function of its own.

    Args:
        graph: The dynamics, traced for batches of any size.
    """
    for operation in graph.get_operations():
        if operation.type in PYTHON_OPERATIONS:
            return True
        if operation.type in _RANGES | _LOOPS and _reads_the_size(operation):
            return True
        if operation.type in _LOOPS:
            condition = graph._get_function(operation.get_attr("cond").name)
            if any(x.type in _SIZES for x in condition.graph.get_operations()):
                return True
    nodes = [n for f in graph.as_graph_def().library.function for n in f.node_def]
    nested = {node.op for node in nodes}
    counts = bool(nested & (_RANGES | _LOOPS)) and bool(nested & _SIZES)
    return counts or bool(nested & PYTHON_OPERATIONS)


def _reads_the_size(operation: tf.Operation) -> bool:
    """Return whether an operation depends on the size of the batch, through numbers alone."""
    seen, waiting = set(), [x for x in operation.inputs if _is_number(x)]
    while waiting:
        x = waiting.pop()
        if x.op.name in seen:
            continue
        seen.add(x.op.name)
        if x.op.type in _SIZES:
            # The size of a shape is a rank, which is known.
            if any(_has_any_size(y) for y in x.op.inputs):
                return True
            continue
        waiting.extend(y for y in x.op.inputs if _is_number(y))
    return False


def _has_any_size(x: tf.Tensor) -> bool:
    """Return whether a tensor may have samples on its first axis."""
    return x.shape.rank is None or (x.shape.rank > 0 and x.shape[0] is None)


def _is_number(x: tf.Tensor) -> bool:
    return x.dtype.is_integer or x.shape.rank == 0
