"""Which tensors and variables that the dynamics read may be asked for a gradient."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record
from tensorflow.python.ops import handle_data_util

# The most elements of a tensor that may be watched after the trace of a `tf.function`.
SMALL = 4096


def sources_of(reads: list, matters: list, variables: Sequence[tf.Variable], frozen: set) -> list:
    """Return `(position, variable or tensor)` of the reads in which a gradient may be asked for.

    Args:
        reads: As in `VectorField`.
        matters: For each of them, whether the field depends on it.
        variables: The variables that the field reads by their handles.
        frozen: The identities of the tensors that stand for variables which do not train.
    """
    by_handle = {id(v.handle): v for v in variables if v.trainable}
    sources = []
    for position, x in enumerate(reads):
        if not matters[position]:
            continue
        if is_variable(x):
            source, dtype = by_handle.get(id(x), x), handle_dtype(x)
            wanted = source is not x or _may_be_watched(x, _handle_shape(x))
        else:
            source, dtype = x, x.dtype
            wanted = _may_be_watched(x, x.shape, id(x) in frozen)
        if wanted and is_continuous(dtype):
            sources.append((position, source))
    return sources


def _may_be_watched(x: tf.Tensor, shape: tf.TensorShape, frozen: bool = False) -> bool:
    """Return whether a gradient in a tensor, or in the variable behind a handle, may be asked for.

    An eager tensor is a constant unless a tape watches it, and so is what `tf.stop_gradient` is in
    front of: a table of measured values must not cost a gradient of its size at every step. A
    `tf.function` may be traced without a tape and called with one; so there, what is small may
    be watched.
    """
    eager = isinstance(x, tf.__internal__.EagerTensor)
    if eager or frozen:
        size = shape.num_elements()
        # The second is for a ForwardAccumulator.
        return (
            record.should_record_backprop([x])
            or bool(eager and forwardprop_util.pack_tangents([x]).tangents)
            or (not tf.executing_eagerly() and size is not None and size <= SMALL)
        )
    if record.should_record_backprop([x]):
        return True
    seen, waiting = set(), [x.op]
    while waiting:
        operation = waiting.pop()
        if operation.type in ("StopGradient", "Const") or operation.name in seen:
            continue
        if not operation.inputs:
            return True
        seen.add(operation.name)
        waiting.extend(y.op for y in operation.inputs)
    return False


def is_continuous(dtype: tf.DType) -> bool:
    """Return whether a gradient in tensors of this dtype exists."""
    return dtype.is_floating or dtype.is_complex


def is_variable(x: tf.Tensor) -> bool:
    """Return whether a tensor is the handle of a variable."""
    return x.dtype == tf.resource and handle_dtype(x) != tf.resource


def value_of(source: Any) -> tf.Tensor:
    """Return the value of a variable, of a variable's handle, or of a tensor."""
    if tf.is_tensor(source) and source.dtype == tf.resource:
        return tf.raw_ops.ReadVariableOp(resource=source, dtype=handle_dtype(source))
    return tf.convert_to_tensor(source)


def handle_dtype(handle: tf.Tensor) -> tf.DType:
    """Return the dtype of the variable behind a handle; `tf.resource` for anything else."""
    known = _handle_data(handle)
    return tf.as_dtype(known[0].dtype) if known else tf.resource


def _handle_shape(handle: tf.Tensor) -> tf.TensorShape:
    return tf.TensorShape(_handle_data(handle)[0].shape)


def _handle_data(handle: tf.Tensor) -> Any:
    if isinstance(handle, tf.__internal__.EagerTensor):
        data = handle._handle_data
    else:
        data = handle_data_util.get_resource_handle_data(handle)
    return data.shape_and_type if data is not None and data.is_set else []
