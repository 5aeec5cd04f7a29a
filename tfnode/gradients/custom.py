"""One custom gradient around a solve: what `Adjoint` and `Checkpoint` share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.gradients import programs
from tfnode.gradients.base import BackwardStats, Gradient, Request
from tfnode.gradients.refusal import first_order_only, refuse_lists, refuse_python
from tfnode.gradients.tapes import cut, recorded, unrecorded
from tfnode.problem import Problem
from tfnode.problem.field.sources import value_of
from tfnode.problem.field.vector_field import BoundField
from tfnode.solvers.custom_gradient import custom_gradient
from tfnode.solvers.failure import Caller, checked, finite
from tfnode.solvers.trajectory import Stats, Trajectory


class Solved(NamedTuple):
    """A solve, as its backward pass sees it.

    Attributes:
        field: The `BoundField`.
        y0: List of tensors, the state at the first time.
        times: 1-D tensor, or `(batch, n)`.
        origin: The caller's time at the solver's time 0: a scalar, or `(batch,)`.
        trajectory: The `Trajectory`.
        request: The `Request`.
        drop, stops: As in `Problem`.
    """

    field: BoundField
    y0: list
    times: tf.Tensor
    origin: tf.Tensor
    trajectory: Trajectory
    request: Request
    drop: Any = False
    stops: tf.Tensor | None = None


def solve(
    method: Gradient,
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
        method: The gradient method.
        problem: The `Problem`.
        request: The `Request`.
        backward: `backward(solved, cotangents) -> (y_bar, sources_bar, times_bar, stats)`.
        max_states: See `RungeKutta.integrate`.
    """
    name, field, solver = method.name, problem.vector_field, request.solver
    kind = _kind(method, problem, request)
    kept: list[Any] = []

    # The sources are inputs, although the field reads them itself, so that the tapes outside
    # connect them with the result.
    @custom_gradient
    def run(*inputs):
        size = len(problem.y0)
        inputs = [_of_this_graph(x) for x in inputs]
        y0, times = inputs[:size], inputs[size]
        reads = [_of_this_graph(x) for x in field.reads]
        before = [value_of(reads[i]) for i in field.handles]
        counters = [_of_this_graph(v.handle) for v in request.counters]
        stops = None if problem.stops is None else _of_this_graph(problem.stops)

        def integrate(y0, times, reads, origin, quadratures, drop, stops):
            return solver.integrate(
                recorded(problem.field if field.updates else field.bind(reads)),
                y0,
                times,
                caller=Caller(origin),
                quadratures=quadratures,
                final_only=request.final_only,
                drop=drop,
                stops=stops,
                **({} if max_states is None else {"max_states": max_states}),
            )

        with unrecorded(solver):
            trajectory = programs.run(
                None if field.updates else kind,
                integrate,
                *(y0, times, reads, problem.origin, problem.quadratures, problem.drop, stops),
            )
        results = [*trajectory.states, *trajectory.quadratures]
        with tf.control_dependencies(results[:1]):
            # The error of a failed solve comes before gradients of NaN reach any variable.
            trajectory = trajectory._replace(failed=tf.identity(trajectory.failed))
        trajectory = cut(trajectory)
        kept.append(trajectory.stats)
        origin = tf.stop_gradient(_of_this_graph(problem.origin))
        drop = _of_this_graph(problem.drop) if tf.is_tensor(problem.drop) else problem.drop

        def grad(*cotangents, variables=()):
            local_reads = [_here(x, outside) for x, outside in zip(reads, field.reads)]
            local_inputs = [_here(x) for x in inputs]
            arriving, factor = _solvable(cotangents, tf.float16 in field.dtypes)

            def go_back(reads, y0, times, origin, trajectory, drop, stops, arriving):
                bound = field.bind(reads)
                solved = Solved(bound, y0, times, origin, trajectory, request, drop, stops)
                return backward(solved, arriving)

            local = local_reads, local_inputs[:size], local_inputs[size]
            known = tf.nest.map_structure(_here, (origin, trajectory, drop, stops))
            with unrecorded(solver):
                *gradients, stats = programs.run(
                    kind and ("backward", *kind), go_back, *local, *known, arriving
                )
            y_bar, sources_bar, times_bar = tf.nest.map_structure(
                lambda g: g * tf.cast(factor, g.dtype), gradients
            )
            handles = [local_reads[i] for i in field.handles]
            y_bar, sources_bar, times_bar = _unless_assigned(
                name, handles, before, (y_bar, sources_bar, times_bar)
            )
            for counter, handle, value in zip(request.counters, counters, (1, *stats)):
                tf.raw_ops.AssignAddVariableOp(
                    resource=_here(handle, counter.handle), value=tf.cast(value, counter.dtype)
                )
            gradients = first_order_only(
                name, [*y_bar, times_bar, *sources_bar], [*local_inputs, *cotangents]
            )
            # `variables` are among the sources already.
            return (gradients, [None] * len(variables)) if variables else gradients

        # What loses a custom gradient, as `tf.vectorized_map` does, meets this one.
        return [_no_other_gradient(name, x) for x in results], grad

    values = [value_of(s) for _, s in field.sources]
    outputs = run(*problem.y0, problem.times, *values)
    outputs = refuse_lists(name, outputs, field.lists)
    return refuse_python(name, outputs, problem, values), kept[0]


def _kind(method: Gradient, problem: Problem, request: Request) -> tuple | None:
    """Return all that a solve depends on beside its tensors, or `None` where that is unknown."""
    field, solver = problem.vector_field, request.solver
    if not (tf.executing_eagerly() and solver.tells_steps) or field.python:
        return None
    return (
        *((type(x), repr(x.get_config())) for x in (method, solver)),
        *(request.time_gradient, request.final_only, tf.is_tensor(problem.drop) or problem.drop),
        *(tuple(x.shape) for x in (*problem.y0, problem.times)),
        field.digest(),
        tuple(i for i, _ in field.sources),
        # A program takes the handle of a variable as it is.
        tuple(id(x) for x in field.reads if x.dtype in (tf.resource, tf.variant)),
    )


def _of_this_graph(x: tf.Tensor) -> tf.Tensor:
    """Return a tensor from outside as one of the graph that is being built."""
    graph = tf.compat.v1.get_default_graph()
    return graph.capture(x) if isinstance(graph, tf.__internal__.FuncGraph) else x


def _no_other_gradient(name: str, x: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.PreventGradient(
        input=x,
        message=f"The gradient '{name}' was lost, as it is inside of `tf.vectorized_map`. Use "
        "`tf.map_fn`, or gradient='backprop' with a fixed step.",
    )


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


def _unless_assigned(name: str, handles: list, before: list, gradients: Any) -> Any:
    """Return the gradients; raise, or return NaN under XLA, if a variable has another value."""
    if not handles:
        return gradients
    changed = [
        tf.reduce_any(tf.not_equal(_here(x), value_of(handle)))
        for x, handle in zip(before, handles)
    ]
    return checked(
        gradients,
        tf.reduce_any(changed),
        f"The gradient '{name}' evaluates the dynamics on the way back, but a tf.Variable that "
        "they read was assigned after the solve. Take the gradient before the assignment, make "
        "it a keras.Variable, or use gradient='backprop'.",
        "variables assigned =",
        changed,
    )


def _solvable(cotangents: list, narrow: bool) -> tuple[list, tf.Tensor]:
    """Return cotangents that a backward solve can take, and the factor to its gradients.

    Gradients are linear in the cotangents. Where these are not finite, something after the solve
    failed, and the gradients must be NaN, which is how Keras finds the scale of a loss for float16;
    the backward solve gets zeros then, since it would report a failure of its own.

    Where the field computes in float16, which ends at 65,504, the solve gets cotangents of
    Euclidean norm 1: small enough for sums over a batch, large enough to be told from zero.
    """
    usable = finite(cotangents)
    scale = tf.ones([])
    if narrow:
        largest = tf.reduce_max([tf.cast(tf.reduce_max(tf.abs(c)), tf.float32) for c in cotangents])
        largest = tf.where(usable & (largest > 0.0), largest, 1.0)
        cotangents = [c / tf.cast(largest, c.dtype) for c in cotangents]
        squares = [tf.cast(tf.reduce_sum(c * c), tf.float32) for c in cotangents]
        norm = tf.maximum(tf.sqrt(tf.add_n(squares)), 1.0)  # Below 1 for zeros alone.
        cotangents = [c / tf.cast(norm, c.dtype) for c in cotangents]
        scale = largest * norm
    cotangents = [tf.where(usable, c, tf.zeros_like(c)) for c in cotangents]
    return cotangents, tf.where(usable, scale, math.nan)
