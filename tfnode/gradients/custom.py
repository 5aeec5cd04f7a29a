"""One custom gradient around a solve: what `Adjoint` and `Checkpoint` share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.gradients.base import BackwardStats, Request
from tfnode.gradients.refusal import first_order_only, refuse_lists
from tfnode.gradients.tapes import cut, recorded, unrecorded
from tfnode.problem import Problem
from tfnode.solvers.failure import Caller
from tfnode.solvers.trajectory import Stats, Trajectory
from tfnode.vector_field import BoundField, value_of


class Solved(NamedTuple):
    """A solve, as its backward pass sees it.

    Attributes:
        field: The `BoundField`.
        dtypes: The set of the dtypes of all that the field computes.
        y0: List of tensors, the state at the first time.
        times: 1-D tensor.
        origin: Scalar, the caller's time at the solver's time 0.
        trajectory: The `Trajectory`.
        request: The `Request`.
    """

    field: BoundField
    dtypes: set
    y0: list
    times: tf.Tensor
    origin: tf.Tensor
    trajectory: Trajectory
    request: Request


def solve(
    name: str,
    problem: Problem,
    request: Request,
    backward: Callable[[Solved, list], tuple[list, list, tf.Tensor, BackwardStats]],
    max_states: int | None = None,
) -> tuple[list, Stats]:
    """Solve a problem, with a gradient that `backward` computes.

    TensorFlow builds the gradient of a loop or a branch in a graph of its own. There it knows
    the values of one iteration only where they are tensors of the forward graph, and a tape
    sees them only once an operation of the new graph has given them. So `backward` gets the
    inputs and results of the solve, and all that the field reads, through `_of_this_graph` in
    the forward graph and then through `_here`.

    Args:
        name: The name of the gradient method, for errors.
        problem: The `Problem`.
        request: The `Request`.
        backward: `backward(solved, cotangents) -> (y_bar, sources_bar, times_bar, stats)`.
        max_states: See `RungeKutta.integrate`.
    """
    field, solver = problem.vector_field, request.solver
    kept: list[Any] = []

    # The sources are inputs, although the field reads them itself, so that the tapes outside
    # connect them with the result.
    @tf.custom_gradient
    def run(*inputs):
        size = len(problem.y0)
        y0, times = list(inputs[:size]), inputs[size]
        reads = [_of_this_graph(x) for x in field.reads]
        counters = [_of_this_graph(v.handle) for v in request.counters]
        forward = problem.field if field.updates else field.bind(reads)
        with unrecorded(solver):
            trajectory = solver.integrate(
                recorded(forward),
                y0,
                times,
                caller=Caller(problem.origin),
                quadratures=problem.quadratures,
                final_only=request.final_only,
                **({} if max_states is None else {"max_states": max_states}),
            )
        trajectory = cut(trajectory)
        kept.append(trajectory.stats)
        origin = tf.stop_gradient(_of_this_graph(problem.origin))

        def grad(*cotangents, variables=()):
            local_reads = [_here(x, outside) for x, outside in zip(reads, field.reads)]
            local_inputs = [_here(x) for x in inputs]
            solved = Solved(
                field.bind(local_reads),
                field.dtypes,
                local_inputs[:size],
                local_inputs[size],
                _here(origin),
                tf.nest.map_structure(_here, trajectory),
                request,
            )
            with unrecorded(solver):
                y_bar, sources_bar, times_bar, stats = backward(solved, list(cotangents))
            for counter, handle, value in zip(request.counters, counters, (1, *stats)):
                tf.raw_ops.AssignAddVariableOp(
                    resource=_here(handle, counter.handle), value=tf.cast(value, counter.dtype)
                )
            gradients = first_order_only(
                name, [*y_bar, times_bar, *sources_bar], [*local_inputs, *cotangents]
            )
            # `variables` are among the sources already.
            return (gradients, [None] * len(variables)) if variables else gradients

        return [*trajectory.states, *trajectory.quadratures], grad

    outputs = run(*problem.y0, problem.times, *[value_of(s) for _, s in field.sources])
    return refuse_lists(name, outputs, field.lists), kept[0]


def _of_this_graph(x: tf.Tensor) -> tf.Tensor:
    """Return a tensor from outside as one of the graph that is being built."""
    graph = tf.compat.v1.get_default_graph()
    return graph.capture(x) if isinstance(graph, tf.__internal__.FuncGraph) else x


def _here(x: Any, outside: Any = None) -> Any:
    """Return a tensor of the forward graph as the result of an operation of this graph.

    Args:
        x: The tensor; anything else is returned as it is.
        outside: The same tensor outside of the forward graph.
    """
    if not tf.is_tensor(x) or tf.executing_eagerly():
        return x
    if x.dtype == tf.resource and "internal_grad_fn" in tf.compat.v1.get_default_graph().name:
        # TensorFlow traces the gradient under this name to save it with a model, and knows
        # variables by their own handles alone.
        return outside
    return tf.identity(x)
