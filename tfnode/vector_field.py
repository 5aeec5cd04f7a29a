"""The vector field as a traced function of explicit tensors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope
from tensorflow.python.eager import context, forwardprop_util, record
from tensorflow.python.ops import handle_data_util

from tfnode.solvers.rows import Rows, take

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


class VectorField:
    """A vector field, traced once, as a function of all that it reads.

    A gradient method evaluates the field on the way back, too. By then the Keras layers in it
    may have left their call context, inside a loop its tensors belong to another iteration, and
    variables may have other values. So the trace makes every tensor that the field reads an
    explicit input, see `bind`, and the value that a Keras variable has now is such a tensor. No
    evaluation updates a Keras variable.

    Args:
        function: `function(t, y, *own) -> (dy, dq)`, with `y`, `dy` and `dq` lists of tensors.
        time_dtype: The dtype of `t`.
        y: List of tensors, for their shapes and dtypes.
        own: Tensors of the batch, from which the field reads one row for each sample. They are
            the first ones of `reads`.
        batch: `()` where `t` is a scalar; where each sample has its time, `(size,)`, the size
            of the batch, or `None` for any.

    Attributes:
        reads: List of tensors from outside that the field reads: values, and handles of tensor
            arrays and of variables that are not Keras's.
        sources: Those of `reads` in which a gradient may be asked for, as
            `(position, variable or tensor)` pairs.
        handles: The positions in `reads` of the handles of variables that the field depends on.
        lists: The handles of `TensorArray`s and the like among `reads`.
        dtypes: The set of the dtypes of all that the field computes.
        python: The types of its operations that call Python, each with the set of the positions
            in `[t, *y, *reads]` of what they depend on.
        updates: Whether an evaluation outside of this trace updates Keras variables.
        variables: The Keras variables that the field reads, but for the states of seeds.
        seeds: The states of Keras's seed generators that the field draws from, with the value
            that belongs to this solve, as `(variable, tensor)` pairs.

    Raises:
        ValueError: If the field draws from TensorFlow's own random generators, or updates the
            running averages of plain batch normalisation.
    """

    def __init__(
        self,
        function: Callable,
        time_dtype: tf.DType,
        y: Sequence[tf.Tensor],
        own: Sequence[tf.Tensor] = (),
        batch: tuple = (),
    ):
        def signature_of(batch: tuple) -> tuple:
            def spec(x: tf.Tensor) -> tf.TensorSpec:
                return tf.TensorSpec([*batch, *x.shape[len(batch) :]], x.dtype)

            return tf.TensorSpec(batch, time_dtype), [spec(x) for x in y], [spec(x) for x in own]

        signature = signature_of(batch)
        self.seeds: list = []
        traced, scope = _trace(function, signature, self.seeds)
        drawn = scope.updated_seeds()
        if drawn:
            self.seeds = [(seed, tf.identity(seed.value)) for seed, _ in drawn]
            for seed, draws in drawn:
                seed.assign(seed + keras.ops.convert_to_tensor([0, draws], seed.dtype))
        if drawn or scope.created:
            # Now with the seeds of this solve, and with the variables that the first trace made.
            traced, scope = _trace(function, signature, self.seeds)
        updated = [v for v, _ in scope.updated.values() if not _is_seed(v)]
        _refuse_batch_normalization(updated)
        self._function = traced
        self._trace_again = lambda size: _trace(function, signature_of((size,)), self.seeds)
        self._own = len(own)
        self.reads = [*own, *traced.captured_inputs]
        matters = [True] * len(own) + _reach_outputs(traced)
        _refuse_feedback(updated, {id(x) for x, used in zip(self.reads, matters) if used}, scope)
        self.sources = _sources(self.reads, traced.graph.variables, scope.frozen)
        self.handles = [i for i, x in enumerate(self.reads) if matters[i] and _is_variable(x)]
        self.lists = [x for x in self.reads if x.dtype == tf.variant]
        self.dtypes = {x.dtype for op in traced.graph.get_operations() for x in op.outputs}
        operations = _operations(traced.graph)
        _refuse_random_operations(operations)
        self.python = _python_calls(traced.graph, operations)
        self.updates = bool(updated)
        self._values = list(scope.values.values())
        self.variables = [v for v in scope.read.values() if not _is_seed(v)]

    def bind(self, reads: Sequence[tf.Tensor]) -> "BoundField":
        """Return the field with these tensors in place of `reads`."""
        return BoundField(self._function, reads, [i for i, _ in self.sources], self._own)

    def takes_parts(self, size: Any) -> Any:
        """Return whether the field takes some of the samples as it takes the batch.

        It does not where it draws random numbers, where it reads a tensor that is as long as the
        batch and no variable, nor where it cannot be traced with a batch of another size.

        Args:
            size: Of the batch, an int or an int32 scalar.

        Returns:
            A boolean, or a boolean scalar where a size is known only at run time.
        """
        variables = {id(value) for value in self._values}
        found = [x for x in self.reads[self._own :] if id(x) not in variables]
        found = [x for x in found if x.dtype not in (tf.resource, tf.variant)]
        operations = self._function.graph.get_operations()
        found += [x.outputs[0] for x in operations if x.type == "Const" and _may_be_data(x)]
        sizes = [x.shape[0] or tf.shape(x)[0] for x in found if x.shape.rank]
        known = [x for x in (*sizes, size) if not tf.is_tensor(x)]
        largest = max([x.shape[0] or 0 for x in self.reads if x.shape.rank] + known + [1])
        if self.seeds or (not tf.is_tensor(size) and size in known[:-1]):
            return False
        try:
            self._trace_again(largest + 1)
        except (TypeError, ValueError, tf.errors.OpError):
            return False
        dynamic = [x for x in sizes if tf.is_tensor(x) or tf.is_tensor(size)]
        return tf.reduce_all([tf.not_equal(x, size) for x in dynamic]) if dynamic else True


class BoundField:
    """A vector field together with the tensors that it reads.

    Attributes:
        sources: List of the tensors, or handles of variables, to differentiate in.
    """

    def __init__(self, function: Any, reads: Sequence[tf.Tensor], positions: list[int], own: int):
        self._function, self._own = function, own
        self._reads = list(reads)
        self.sources = [self._reads[i] for i in positions]

    def __call__(
        self, t: tf.Tensor, y: Sequence[tf.Tensor], rows: Rows | None = None
    ) -> tuple[list, list]:
        """Return the derivative at `(t, y)` and the integrands of the quadratures there."""
        own = [take(x, rows) for x in self._reads[: self._own]]
        # TensorFlow has no public way to call a function with other captured tensors.
        dy, dq = self._function._call_flat([t, *y, *own], self._reads[self._own :])
        return list(dy), list(dq)


def value_of(source: Any) -> tf.Tensor:
    """Return the value of a variable, of a variable's handle, or of a tensor."""
    if tf.is_tensor(source) and source.dtype == tf.resource:
        return tf.raw_ops.ReadVariableOp(resource=source, dtype=_handle_dtype(source))
    return tf.convert_to_tensor(source)


class PinnedSeeds(keras.StatelessScope):
    """A scope in which Keras's seed generators draw the same numbers at every evaluation.

    Updates of other variables take place.

    Args:
        seeds: `(variable, tensor)` pairs, as in `VectorField.seeds`.
    """

    def __init__(self, seeds: list):
        super().__init__(seeds, initialize_variables=False)
        _enter_outer(self)

    def add_update(self, update: tuple) -> None:
        """Keep an update of a seed, and carry out any other one."""
        variable, value = update
        if _is_seed(variable):
            super().add_update(update)
        else:
            variable._direct_assign(value)


class _Watching(keras.StatelessScope):
    """A scope in which variables have the values that they have around the trace.

    It drops the updates of variables, and notes which are read and updated.

    Attributes:
        values: The tensors that stand for variables.
        frozen: The set of the identities of those in which nobody may ask for a gradient.
    """

    def __init__(self, seeds: list):
        super().__init__(seeds)
        _enter_outer(self)
        self.read: dict = {}
        self.updated: dict = {}
        self.created = False
        self.values: dict = {}
        self.frozen: set = set()
        self._around = tf.compat.v1.get_default_graph().as_default
        if tf.executing_eagerly():
            self._around = context.eager_mode

    def add_update(self, update: tuple) -> None:
        variable, _ = update
        _, count = self.updated.get(id(variable), (variable, 0))
        self.updated[id(variable)] = variable, count + 1
        super().add_update(update)

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.read[id(variable)] = variable
        self.created |= variable._value is None
        value = super().get_current_value(variable)
        if value is None and variable._value is not None:
            value = self._value_around(variable)
        return value

    def _value_around(self, variable: keras.Variable) -> tf.Tensor:
        if id(variable) not in self.values:
            with self._around():
                value = tf.identity(variable._value)
                if not (variable._value.trainable or record.should_record_backprop([value])):
                    self.frozen.add(id(value))
            self.values[id(variable)] = value
        return self.values[id(variable)]

    def updated_seeds(self) -> list:
        """Return the seeds that were drawn from, each with the number of draws."""
        return [pair for pair in self.updated.values() if _is_seed(pair[0])]


def _enter_outer(scope: keras.StatelessScope) -> None:
    """Let a scope see the values of variables in the scope around it."""
    if in_stateless_scope():
        scope.state_mapping = {**get_stateless_scope().state_mapping, **scope.state_mapping}


def _trace(function: Callable, signature: tuple, seeds: list) -> tuple[Any, _Watching]:
    scope = _Watching(seeds)

    def evaluate(t, y, own):
        # At the root of a graph TensorFlow refuses names of layers that begin with "_".
        with scope, tf.name_scope("vector_field"):
            return function(t, y, *own)

    traced = tf.function(evaluate, autograph=False).get_concrete_function(*signature)
    return traced, scope


def _is_seed(variable: keras.Variable) -> bool:
    return variable.name == "seed_generator_state"


def _operations(graph: tf.Graph) -> set[str]:
    """Return the types of the operations of a graph and of the functions in it."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return {node.op for node in nodes}


def _refuse_random_operations(operations: set[str]) -> None:
    found = sorted(operations & RANDOM_OPERATIONS)
    if found:
        raise ValueError(
            "The dynamics draw from a random generator of TensorFlow, so that every evaluation "
            "would see other numbers and the backward pass others again. Draw the noise before "
            "the solve and let the dynamics close over it, or draw it in the dynamics by "
            "`keras.random` with a `keras.random.SeedGenerator`, which is fixed for each solve. "
            f"Received: dynamics with the operations {found}"
        )


def _refuse_batch_normalization(updated: list) -> None:
    """Raise for averages of one number a channel: `TimeBatchNormalization` has them by time."""
    for variable in updated:
        if variable.name == "moving_mean" and len(variable.shape) == 1:
            raise ValueError(
                "Batch normalisation in the dynamics keeps one running average for states of all "
                "times, which describes none of them: a model that is right in training would be "
                "wrong in evaluation. Use keras.layers.GroupNormalization, or "
                "tfnode.layers.TimeBatchNormalization with tfnode.callbacks.Recalibrate. "
                f"Received: dynamics that update {variable.path}"
            )


def _refuse_feedback(updated: list, matters: set, scope: _Watching) -> None:
    """Raise for a variable that the field updates and that its derivative depends on."""
    for variable in updated:
        value = scope.values.get(id(variable))
        if value is not None and id(value) in matters:
            raise ValueError(
                "The dynamics update a variable on which their own derivative depends, as "
                "keras.layers.SpectralNormalization does in training. The derivative would "
                "change with every evaluation, and the solution with their number. Call the "
                "layer with `training=False`, or update the variable outside of the solve. "
                f"Received: dynamics that update and use {variable.path}"
            )


def _reach_outputs(traced: Any) -> list[bool]:
    """Return for each captured input of a function whether an output depends on it."""
    before = _ancestors(traced.graph.outputs)
    return [x.op.name in before for x in traced.graph.internal_captures]


def _python_calls(graph: tf.Graph, operations: set[str]) -> dict[str, set[int]]:
    calls: dict[str, set[int]] = {}
    for kind in operations & PYTHON_OPERATIONS:
        found = [x for x in graph.get_operations() if x.type == kind]
        before = _ancestors([x for operation in found for x in operation.inputs])
        # One in a function of its own may depend on anything.
        calls[kind] = {i for i, x in enumerate(graph.inputs) if not found or x.op.name in before}
    return calls


def _ancestors(tensors: Iterable[tf.Tensor]) -> set[str]:
    """Return the names of the operations of a graph that tensors depend on."""
    seen, waiting = set(), [x.op for x in tensors]
    while waiting:
        operation = waiting.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            waiting.extend(x.op for x in operation.inputs)
    return seen


def _sources(reads: list, variables: Sequence[tf.Variable], frozen: set) -> list:
    by_handle = {id(v.handle): v for v in variables if v.trainable}
    sources = []
    for position, x in enumerate(reads):
        if x.dtype == tf.resource:
            source = by_handle.get(id(x), x)
            differentiable = source is not x or record.should_record_backprop([x])
            if differentiable and _continuous(_handle_dtype(x)):
                sources.append((position, source))
        elif id(x) not in frozen and _continuous(x.dtype) and _may_be_watched(x):
            sources.append((position, x))
    return sources


def _may_be_watched(x: tf.Tensor) -> bool:
    """Return whether a gradient in a tensor may be asked for.

    An eager tensor is a constant unless a tape watches it, and so is what `tf.stop_gradient` is in
    front of: a table of measured values must not cost a gradient of its size at every step.
    """
    if isinstance(x, tf.__internal__.EagerTensor):
        # The second is for a ForwardAccumulator.
        tangents = forwardprop_util.pack_tangents([x]).tangents
        return record.should_record_backprop([x]) or bool(tangents)
    seen, waiting = set(), [x.op]
    while waiting:
        operation = waiting.pop()
        if operation.type == "Const" and record.should_record_backprop(operation.outputs):
            return True  # A small eager tensor that a tape within this graph watches.
        if operation.type in ("StopGradient", "Const") or operation.name in seen:
            continue
        if not operation.inputs:
            return True
        seen.add(operation.name)
        waiting.extend(y.op for y in operation.inputs)
    return False


def _continuous(dtype: tf.DType) -> bool:
    return dtype.is_floating or dtype.is_complex


def _may_be_data(constant: tf.Operation) -> bool:
    """Return whether a constant may be more than a shape, an axis or the like."""
    x = constant.outputs[0]
    return bool(x.shape.rank) and (_continuous(x.dtype) or x.shape[0] > 8)


def _is_variable(x: tf.Tensor) -> bool:
    return x.dtype == tf.resource and _handle_dtype(x) != tf.resource


def _handle_dtype(handle: tf.Tensor) -> tf.DType:
    """Return the dtype of the variable behind a handle; `tf.resource` for anything else."""
    if isinstance(handle, tf.__internal__.EagerTensor):
        data = handle._handle_data
    else:
        data = handle_data_util.get_resource_handle_data(handle)
    if data is None or not data.is_set or not data.shape_and_type:
        return tf.resource
    return tf.as_dtype(data.shape_and_type[0].dtype)
