"""The digest of a graph, by which a program of an earlier solve is known again."""

import hashlib
import re
from typing import Any

import tensorflow as tf


def digest(graph: tf.Graph) -> bytes:
    """Return what two graphs have in common only if they compute the same of their inputs."""
    definition = graph.as_graph_def()
    inputs = {x.op.name: f"input {i}" for i, x in enumerate(graph.inputs)}
    for node in definition.node:
        if node.name in inputs:
            # Small tensors from outside are constants here, but the caller may give others.
            node.name, node.op = inputs[node.name], "Input"
            node.ClearField("attr")
        for i, name in enumerate(node.input):
            node.input[i] = inputs.get(name.split(":")[0], name)
    _number_functions(definition)
    specs = [(x.dtype, x.shape) for x in graph.inputs]
    outputs = [(inputs.get(x.op.name, x.op.name), x.value_index) for x in graph.outputs]
    content = definition.SerializeToString(deterministic=True) + repr((specs, outputs)).encode()
    return hashlib.sha256(content).digest()


def _number_functions(definition: Any) -> None:
    """Number the functions of a graph, whose names count all that the process ever traced."""
    functions = definition.library.function

    def number(function: Any) -> int:
        return int((re.findall(r"\d+", function.signature.name) or [0])[-1])

    functions.sort(key=number)
    names = {f.signature.name: f"function {i}" for i, f in enumerate(functions)}
    for node in (*definition.node, *(node for f in functions for node in f.node_def)):
        node.op = names.get(node.op, node.op)
        for attribute in node.attr.values():
            kind = attribute.WhichOneof("value")
            called = [attribute.func] if kind == "func" else attribute.list.func
            for function in called if kind in ("func", "list") else ():
                function.name = names.get(function.name, function.name)
    for function in functions:
        function.signature.name = names[function.signature.name]
