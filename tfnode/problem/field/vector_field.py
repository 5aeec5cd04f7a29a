"""The vector field as a traced function of explicit tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfnode.problem.field import checks
from tfnode.problem.field.digest import digest
from tfnode.problem.field.positions import count_samples
from tfnode.problem.field.scopes import Watching, is_seed
from tfnode.problem.field.sources import is_continuous, is_variable, sources_of
from tfnode.solvers.rows import Rows, take


class VectorField:
    """A vector field, traced once, as a function of all that it reads.

    A gradient method evaluates the field on the way back, too. By then the Keras layers in it
    may have left their call context, inside a loop its tensors belong to another iteration, and
    variables may have other values. So the trace makes every tensor that the field reads an
    explicit input, see `bind`, and the value that a Keras variable has now is such a tensor. No
    evaluation updates a Keras variable.

    Args:
        function: `function(t, y, *per_sample) -> (dy, dq)`, with `y`, `dy` and `dq` lists of
            tensors.
        time_dtype: The dtype of `t`.
        y: List of tensors, for their shapes and dtypes.
        per_sample: Tensors of the batch, from which the field reads one row for each sample. They
            are the first ones of `reads`.
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
        starts: As in `FieldScope`.

    Raises:
        ValueError: If the field draws from TensorFlow's own random generators, or updates the
            running averages of plain batch normalisation.
    """

    def __init__(
        self,
        function: Callable,
        time_dtype: tf.DType,
        y: Sequence[tf.Tensor],
        per_sample: Sequence[tf.Tensor] = (),
        batch: tuple = (),
    ):
        def signature_of(batch: tuple) -> tuple:
            def spec(x: tf.Tensor) -> tf.TensorSpec:
                return tf.TensorSpec([*batch, *x.shape[len(batch) :]], x.dtype)

            specs = [spec(x) for x in y], [spec(x) for x in per_sample]
            return tf.TensorSpec(batch, time_dtype), *specs

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
        updated = [v for v, _ in scope.updated.values() if not is_seed(v)]
        checks.refuse_batch_normalization(updated)
        self._function = traced
        self._trace_again = lambda size: _trace(function, signature_of((size,)), self.seeds)
        self._num_per_sample = len(per_sample)
        self.reads = [*per_sample, *traced.captured_inputs]
        before = checks.ancestors(traced.graph.outputs)
        captures = [x.op.name in before for x in traced.graph.internal_captures]
        matters = [True] * len(per_sample) + captures
        used = {id(x) for x, matter in zip(self.reads, matters) if matter}
        checks.refuse_feedback(updated, used, before, scope)
        checks.refuse_assignments(traced.graph, captures)
        self.sources = sources_of(self.reads, matters, traced.graph.variables, scope.frozen)
        self.handles = [i for i, x in enumerate(self.reads) if matters[i] and is_variable(x)]
        self.lists = [x for x in self.reads if x.dtype == tf.variant]
        self.dtypes = {x.dtype for op in traced.graph.get_operations() for x in op.outputs}
        operations = checks.operations_of(traced.graph)
        checks.refuse_random_operations(operations)
        self.python = checks.python_calls(traced.graph, operations)
        self.updates = bool(updated)
        self.starts = scope.starts
        self._values = [*scope.values.values(), *scope.starts.values()]
        self.variables = [v for v in scope.read.values() if not is_seed(v)]

    def bind(self, reads: Sequence[tf.Tensor]) -> "BoundField":
        """Return the field with these tensors in place of `reads`."""
        return BoundField(self._function, reads, [i for i, _ in self.sources], self._num_per_sample)

    def digest(self) -> bytes:
        """Return what two fields have in common only if they compute the same of their inputs."""
        return digest(self._function.graph)

    def takes_parts(self, size: Any) -> Any:
        """Return whether the field takes some of the samples as it takes the batch.

        It does not where it draws random numbers, where it reads a tensor that is as long as the
        batch and no variable, nor where it may count the samples.

        Args:
            size: Of the batch, an int or an int32 scalar.

        Returns:
            A boolean, or a boolean scalar where a size is known only at run time.

        Raises:
            TypeError, ValueError, tf.errors.OpError: If the field cannot be traced with a batch of
                another size.
        """
        variables = {id(value) for value in self._values}
        found = [x for x in self.reads[self._num_per_sample :] if id(x) not in variables]
        found = [x for x in found if x.dtype not in (tf.resource, tf.variant)]
        operations = self._function.graph.get_operations()
        found += [x.outputs[0] for x in operations if x.type == "Const" and _may_be_data(x)]
        sizes = [x.shape[0] or tf.shape(x)[0] for x in found if x.shape.rank]
        known = {x for x in sizes if not tf.is_tensor(x)}
        batch: set = set() if tf.is_tensor(size) else {size}
        if self.seeds or batch & known or count_samples(self._function.graph):
            return False
        rows = {x.shape[0] or 0 for x in self.reads if x.shape.rank}
        self._trace_again(max({1} | known | batch | rows) + 1)
        dynamic = [x for x in sizes if tf.is_tensor(x) or tf.is_tensor(size)]
        return tf.reduce_all([tf.not_equal(x, size) for x in dynamic]) if dynamic else True


class BoundField:
    """A vector field together with the tensors that it reads.

    Attributes:
        sources: List of the tensors, or handles of variables, to differentiate in.
    """

    def __init__(
        self,
        function: Any,
        reads: Sequence[tf.Tensor],
        positions: list[int],
        num_per_sample: int,
    ):
        self._function, self._num_per_sample = function, num_per_sample
        self._reads = list(reads)
        self.sources = [self._reads[i] for i in positions]

    def __call__(
        self, t: tf.Tensor, y: Sequence[tf.Tensor], rows: Rows | None = None
    ) -> tuple[list, list]:
        """Return the derivative at `(t, y)` and the integrands of the quadratures there."""
        count = self._num_per_sample
        per_sample = [take(x, rows) for x in self._reads[:count]]
        # TensorFlow has no public way to call a function with other captured tensors.
        dy, dq = self._function._call_flat([t, *y, *per_sample], self._reads[count:])
        return list(dy), list(dq)


def _trace(function: Callable, signature: tuple, seeds: list) -> tuple[Any, Watching]:
    scope = Watching(seeds)

    def evaluate(t: tf.Tensor, y: list, per_sample: list) -> tuple:
        # At the root of a graph TensorFlow refuses names of layers that begin with "_".
        scope.graph = tf.compat.v1.get_default_graph()
        with scope, tf.name_scope("vector_field"):
            return function(t, y, *per_sample)

    traced = tf.function(evaluate, autograph=False).get_concrete_function(*signature)
    return traced, scope


def _may_be_data(constant: tf.Operation) -> bool:
    """Return whether a constant may be more than a shape, an axis or the like."""
    x = constant.outputs[0]
    return bool(x.shape.rank) and (is_continuous(x.dtype) or x.shape[0] > 8)
