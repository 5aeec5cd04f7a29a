"""What a gradient method is given to solve, and what all of them share."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import record

# TensorFlow exports neither the list of the variables that a function reads, nor the question
# whether a tape watches a tensor, nor a way to stop all tapes and let them go on. The first two
# are needed to differentiate in what a field closes over; the others are in `unrecorded`.


class Problem(NamedTuple):
    """An initial value problem in the form that solvers and gradients work on.

    Attributes:
        field: `field(t, y) -> (dy, dq)` over lists of tensors, float32 or float64: the
            derivative and the integrands of the quadratures.
        replay: `field` for evaluations beside those of the forward solve: the same value,
            but no layer in it updates its state.
        y0: List of tensors, the state at `times[0]`.
        quadratures: List of tensors, zeros like `dq`: the state never depends on them, so
            that they have no part in the error that an adaptive solver controls.
        times: 1-D tensor of the solver's times.
        solver: A solver with `integrate`.
        time_gradient: Whether the gradient in `times` may be asked for.
        final_only: Whether only the state at the last time is wanted.
        on_backward: Called with the `BackwardStats` of the backward solve, in the graph of the
            backward pass, or `None`.
    """

    field: Callable
    replay: Callable
    y0: list
    quadratures: list
    times: tf.Tensor
    solver: Any
    time_gradient: bool = False
    final_only: bool = False
    on_backward: Callable | None = None


class BackwardStats(NamedTuple):
    """What a backward solve cost: `Stats`, and how well it retraced the states.

    Attributes:
        num_evaluations: Evaluations of the vector field, most with a vector-Jacobian product.
        num_steps: Accepted steps.
        num_rejected: Rejected steps.
        reconstruction_error: Float scalar: the largest distance, over the requested times,
            of the state that was integrated backward from the stored one, relative to the
            latter, in the Euclidean norm. 0 where nothing is integrated backward.
    """

    num_evaluations: tf.Tensor
    num_steps: tf.Tensor
    num_rejected: tf.Tensor
    reconstruction_error: tf.Tensor


class Gradient:
    """Base of the gradient methods: `solve(problem) -> (outputs, stats)`.

    `outputs` is a list with a tensor for each component of the state, stacked over the
    times, or the last state where `problem.final_only` is set; and then the quadratures at
    the last time.
    """

    def check(self, solver):
        """Raises `ValueError` where solves by this solver cannot be differentiated this way."""

    def solve(self, problem: Problem):
        """Solves the problem so that the result is differentiable."""
        raise NotImplementedError

    def first_order_only(self, tensors, dependencies):
        """The tensors, which refuse to be differentiated in what they depend on."""
        return _without_gradient(
            tensors,
            dependencies,
            f"The gradient method '{self._name}' has no second derivatives, nor forward-mode "
            "ones, which TensorFlow takes as such: it was asked to differentiate its own result. "
            "Use gradient='backprop'.",
            f"{self._name}_has_no_second_derivatives",
        )

    def refuse_lists(self, outputs, lists):
        """The outputs of a solve, which refuse to be differentiated in lists of tensors."""
        if not lists:
            return outputs
        (zero,) = _without_gradient(
            [tf.zeros([], outputs[0].dtype)],
            lists,
            "The dynamics close over a TensorArray, or another list of tensors, through which "
            f"the gradient '{self._name}' cannot flow. Let them close over its `stack()`, or "
            "use gradient='backprop'.",
            f"{self._name}_has_no_gradient_in_a_TensorArray",
        )
        return [outputs[0] + zero, *outputs[1:]]

    @property
    def _name(self):
        return type(self).__name__.lower()

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes a gradient method from what `get_config` returned."""
        return cls(**config)


def _without_gradient(tensors, dependencies, message, name):
    """The tensors; whoever differentiates them in the dependencies gets an error.

    XLA runs no Python: its error has the `name` alone.
    """
    graph = tf.compat.v1.get_default_graph()

    def fail():
        raise NotImplementedError(message)

    @tf.custom_gradient
    def refuse(*dependencies):
        def grad(*upstream, variables=()):
            here = tf.compat.v1.get_default_graph()
            if here is graph or isinstance(here.outer_graph, tf.__internal__.FuncGraph):
                fail()
            # Below a tape outside, TensorFlow traces the derivative of a `tf.function`
            # whether or not anyone will ask for it, so only running it may fail.
            with tf.control_dependencies([tf.py_function(fail, [], [], name)]):
                return [tf.zeros_like(x) for x in dependencies]

        return [tf.identity(x) for x in tensors], grad

    return refuse(*dependencies)


def unrecorded(solver):
    """A context in which the tapes outside take no notice of a solve.

    A loop below a persistent tape, or below two, is built with all of its derivatives, and
    holds what they need, though a gradient method of ours has its own. Only the field goes
    on tapes, see `recorded`, since it may have some of its own; so may the solvers of TFP.
    """
    return record.stop_recording() if hasattr(solver, "tableau") else contextlib.nullcontext()


def cut(trajectory):
    """The trajectory, through whose tensors no gradient flows.

    Where a tape is outside of a `tf.function`, TensorFlow differentiates what its backward
    pass needs of the forward pass, too.
    """
    return tf.nest.map_structure(
        lambda x: tf.stop_gradient(x) if tf.is_tensor(x) else x, trajectory
    )


def recorded(function):
    """The function, recorded by tapes even where they are stopped."""

    @functools.wraps(function)
    def call(*args):
        if not pywrap_tfe.TFE_Py_TapeSetIsStopped():
            return function(*args)
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
        try:
            return function(*args)
        finally:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()

    return call


class _Probe(tf.__internal__.FuncGraph):
    """A scratch graph that keeps the outside tensors that are used in it.

    `FuncGraph.captures` does not list them all: small eager tensors become constants.
    """

    def __init__(self):
        super().__init__("tfnode_probe")
        self.outside = {}

    def capture(self, tensor, name=None, shape=None):
        if getattr(tensor, "graph", None) is not self:
            self.outside.setdefault(id(tensor), tensor)
        return super().capture(tensor, name=name, shape=shape)


def find_sources(problem: Problem):
    """Traces the field once for everything outside of it that it depends on.

    Returns:
        `(sources, lists, dtypes)`. Of sources a tape can watch each, all floating or complex: the
        trainable variables; the handles of other variables that a tape outside watches; the
        tensors that the field closes over. Lists are the handles of `TensorArray`s and the
        like, which have no sums, so that no gradient in them can be gathered. The dtypes are a set:
        those of all that the field computes.
    """
    probe = _Probe()
    with probe.as_default(), record.VariableWatcher() as watcher:
        placeholder = tf.compat.v1.placeholder
        problem.replay(
            placeholder(problem.times.dtype, []),
            [placeholder(y.dtype, y.shape) for y in problem.y0],
        )
    variables = [v for v in watcher.watched_variables() if _continuous(v.dtype)]
    known = {id(v.handle) for v in variables}
    tensors = [
        x
        for x in probe.outside.values()
        if _continuous(x.dtype)
        or (
            x.dtype == tf.resource
            and id(x) not in known
            and record.should_record_backprop([x])
            and _continuous(_handle_dtype(x))
        )
    ]
    lists = [x for x in probe.outside.values() if x.dtype == tf.variant]
    dtypes = {x.dtype for operation in probe.get_operations() for x in operation.outputs}
    return [*variables, *tensors], lists, dtypes


def _continuous(dtype):
    return dtype.is_floating or dtype.is_complex


def _handle_dtype(handle):
    """The dtype of the variable behind a handle; `tf.resource` if it is something else."""
    data = getattr(handle, "_handle_data", None)
    if data is None or not data.is_set or not data.shape_and_type:
        return tf.resource
    return tf.as_dtype(data.shape_and_type[0].dtype)


def read(source):
    """The value of a source, as a tensor."""
    if tf.is_tensor(source) and source.dtype == tf.resource:
        return tf.raw_ops.ReadVariableOp(resource=source, dtype=_handle_dtype(source))
    return tf.convert_to_tensor(source)


def vjp(field, sources, t, y, cotangents):
    """The field and its vector-Jacobian product, in the state and in the sources.

    Returns:
        `(dy, y_bar, sources_bar)`, lists of tensors; zeros where nothing connects.
    """
    with tf.GradientTape() as tape:
        tape.watch(y)
        tape.watch([s for s in sources if not isinstance(s, tf.Variable)])
        dy = field(t, y)
    gradients = gradients_or_zeros(tape, dy, [*y, *sources], cotangents)
    return dy, gradients[: len(y)], gradients[len(y) :]


def gradients_or_zeros(tape, dy, sources, cotangents):
    """`tape.gradient`, with zeros where nothing connects."""
    gradients = tape.gradient(dy, sources, cotangents)
    # A gather in the field gives IndexedSlices; what it does not depend on gives None.
    return [
        tf.zeros_like(read(x)) if g is None else tf.convert_to_tensor(g)
        for g, x in zip(gradients, sources)
    ]


def inner(left, right, dtype):
    """The inner product of two lists of tensors, a scalar of the dtype."""
    return tf.add_n([tf.cast(tf.reduce_sum(a * b), dtype) for a, b in zip(left, right)])
