"""What the traced dynamics must not do, and what they do that a gradient must know."""

from collections.abc import Iterable

import tensorflow as tf

from tfnode.problem.field.scopes import Watching

# Operations that draw another number each time they run.
RANDOM_OPERATIONS = {
    "Multinomial",
    "NonDeterministicInts",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RngReadAndSkip",
    "RngSkip",
    "StatefulRandomBinomial",
    "StatefulStandardNormal",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StatefulUniformFullInt",
    "StatefulUniformInt",
    "TruncatedNormal",
}
PYTHON_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}


def operations_of(graph: tf.Graph) -> set[str]:
    """Return the types of the operations of a graph and of the functions in it."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return {node.op for node in nodes}


def ancestors(tensors: Iterable[tf.Tensor]) -> set[str]:
    """Return the names of the operations of a graph that tensors depend on."""
    seen, waiting = set(), [x.op for x in tensors]
    while waiting:
        operation = waiting.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            waiting.extend(x.op for x in operation.inputs)
    return seen


def refuse_random_operations(operations: set[str]) -> None:
    """Raise for dynamics that draw from a generator of TensorFlow."""
    found = sorted(operations & RANDOM_OPERATIONS)
    if found:
        raise ValueError(
            "The dynamics draw from a random generator of TensorFlow, so that every evaluation "
            "would see other numbers and the backward pass others again. Draw the noise before "
            "the solve and let the dynamics close over it, or draw it in the dynamics by "
            "`keras.random` with a `keras.random.SeedGenerator`, which is fixed for each solve. "
            f"Received: dynamics with the operations {found}"
        )


def refuse_batch_normalization(updated: list) -> None:
    """Raise for averages of one number a channel: `TimeBatchNormalization` has them by time."""
    for variable in updated:
        if variable.name == "moving_mean" and len(variable.shape) == 1:
            raise ValueError(
                "Batch normalisation in the dynamics keeps one running average for states of all "
                "times, which describes none of them: a model that is right in training would be "
                "wrong in evaluation. Use tfnode.layers.TimeBatchNormalization, or "
                "keras.layers.GroupNormalization. "
                f"Received: dynamics that update {variable.path}"
            )


def refuse_feedback(updated: list, matters: set, before: set[str], scope: Watching) -> None:
    """Raise for a variable that the field updates and that its derivative depends on."""
    reread = any(value.op.name in before for value in scope.reread)
    for variable in updated:
        value = scope.values.get(id(variable))
        if reread or (value is not None and id(value) in matters):
            raise ValueError(
                "The dynamics update a variable on which their own derivative depends, as "
                "keras.layers.SpectralNormalization does in training. The derivative would "
                "change with every evaluation, and the solution with their number. Call the "
                "layer with `training=False`, or update the variable outside of the solve. "
                f"Received: dynamics that update and use {variable.path}"
            )


def refuse_assignments(graph: tf.Graph, matters: list) -> None:
    """Raise for a `tf.Variable` that the field assigns and that its derivative depends on."""
    handles = {x.op.name for x, used in zip(graph.internal_captures, matters) if used}
    for operation in graph.get_operations():
        assigns = operation.type.startswith(("Assign", "ResourceScatter"))
        if assigns and operation.inputs[0].op.name in handles:
            raise ValueError(
                "The dynamics assign a variable on which their own derivative depends. The "
                "derivative would change with every evaluation, and the solution with their "
                "number. Make it a part of the state, or assign it outside of the solve. "
                f"Received: dynamics with the operation {operation.type}, {operation.name}"
            )


def python_calls(graph: tf.Graph, operations: set[str]) -> dict[str, set[int]]:
    """Return the types of the operations that call Python, and the inputs that reach them."""
    calls: dict[str, set[int]] = {}
    for kind in operations & PYTHON_OPERATIONS:
        found = [x for x in graph.get_operations() if x.type == kind]
        before = ancestors([x for operation in found for x in operation.inputs])
        # One in a function of its own may depend on anything.
        calls[kind] = {i for i, x in enumerate(graph.inputs) if not found or x.op.name in before}
    return calls
