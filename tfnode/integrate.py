"""`odeint`: the one door to the solvers and gradients."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfnode import gradients, solvers
from tfnode.gradients.base import Request
from tfnode.gradients.inference import Inference, converter
from tfnode.problem import Problem
from tfnode.problem.field.calls import converted
from tfnode.problem.times import at_last_times, clocks, rank, stacked, times_tensor
from tfnode.solvers.foreign import drivable

# What other libraries call so.
_ELSEWHERE = {
    "args": "Parameters of the dynamics are what `func` closes over, or the weights of a layer.",
    "context": "A context is an argument of `tfnode.ODEBlock`. Here `func` closes over it.",
    "method": "The method is the argument `solver`.",
}


def odeint(
    func: Callable,
    y0: Any,
    t: Any,
    *,
    solver: Any = "dopri5",
    gradient: Any = None,
    independent: bool | None = None,
    step_times: Any = None,
    return_stats: bool = False,
    **options: Any,
) -> Any:
    """Solve the initial value problem `dy/dt = func(t, y)`, `y(t[0]) = y0`.

    Args:
        func: A callable, a Keras layer or a Keras model, called as `func(t, y)` with `t` a
            scalar tensor. It returns the derivative: the structure and shapes of `y`. A
            layer or model that takes one input is autonomous and gets `y` alone.
        y0: A float tensor of any shape, or any nested structure of them. A half-precision
            state is carried in float32 by the solver; `func` sees it in its own dtype.
        t: 1-D, at least two times, strictly increasing or strictly decreasing. `func` gets
            its times in the dtype of the state, at least float32. Give a tensor, or a list
            with tensors in it, where gradients in the times are wanted. Or `(batch, n)`, a row
            for each sample, which may end in its last time repeated: the state stays there.
        solver: A name, config or instance: see `tfnode.solvers`.
        gradient: A name, config or instance: see `tfnode.gradients`. `None` takes the exact
            gradient of what was computed, 'checkpoint'; with a solver of TensorFlow
            Probability, which does not tell its steps, 'adjoint'.
        independent: Whether every sample has its own clock: its times, direction, steps and error
            norm. The samples are on the first axis of every tensor in `y0`, and `func` gets `t` of
            shape `(batch,)`. `None` means "where `t` is 2-D"; True gives every sample its own
            steps at shared times, too.
        step_times: Times at which the dynamics jump or kink, in any order, `(k,)`; or `(batch, k)`
            where the samples are independent. A step ends on each of them, and the dynamics are
            evaluated on the side of the step. Those outside of the interval count for nothing.
        return_stats: Whether to return the cost of the solve too.
        **options: Arguments of the solver beside its name: `rtol`, `atol`, `num_steps`,
            `step_size`, `max_steps` and the others that it has.

    Returns:
        The states at `t`, stacked on a new leading axis, `[0]` being `y0`; with
        `return_stats`, `(states, stats)` where `stats` is a NamedTuple of int32 tensors
        `num_evaluations`, `num_steps`, `num_rejected`: scalars, or of shape `(batch,)` where
        the samples are independent.

    The dynamics are traced once a solve. What they draw by `keras.random` is fixed for the solve.

    Where the samples are independent, the dynamics must treat each by itself, and an evaluation
    leaves out those that are done: `batch` in `func` is the number of the others. All take part
    under XLA; where the dynamics draw random numbers; where they read a tensor or an array, but
    no variable, whose first axis is as long as the batch; where they count the samples, as by
    `tf.range(tf.shape(y)[0])`, or call Python; and where they cannot be traced with a
    batch of another size, as with a variable that has a row for each sample.

    Raises:
        ValueError: If the arguments do not fit: unknown solver or gradient, or two that do not
            go together, times that are not 1-D, too few or not monotonic, a derivative unlike
            the state; if the dynamics draw by `tf.random`, or hold plain batch normalisation
            in training; if the samples are independent and the dynamics hold any batch
            normalisation in training, or the solver is TFP's.
        TypeError: If a state or the times are not floating.
        tf.errors.InvalidArgumentError: If times known only at run time are not monotonic, or
            if the solve fails, see `tfnode.solvers`; XLA has no assertions: there the states
            are NaN, except the first where `t` has two times.

    Example:
    ```python
    ys = tfnode.odeint(lambda t, y: -y, tf.constant([1.0]), [0.0, 0.5, 1.0], rtol=1e-6)
    ```

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018).
    """
    for name in options.keys() & _ELSEWHERE.keys():
        raise ValueError(f"{_ELSEWHERE[name]} Received: {name}={options[name]!r}")
    solver = solvers.for_solve(solver, **options)
    gradient = gradients.get(gradient, solver)
    options = {"independent": independent, "step_times": step_times}
    states, _, stats = solve(converted(func), y0, t, solver, gradient, **options)
    return (states, stats) if return_stats else states


@tf.autograph.experimental.do_not_convert
def solve(
    func: Any,
    y0: Any,
    t: Any,
    solver: Any,
    gradient: gradients.Gradient,
    *,
    final_only: bool = False,
    counters: tuple = (),
    integrand: Callable | None = None,
    independent: bool | None = None,
    step_times: Any = None,
    context: Any = None,
) -> tuple[Any, tf.Tensor, Any]:
    """Solve as `odeint` does, for layers.

    Args:
        func: As in `odeint`, through `converted`.
        y0, t, independent, step_times: As in `odeint`.
        solver, gradient: Instances.
        final_only: Whether to return the state at the last time alone, without the time
            axis. Without step times nothing is stored for the others.
        counters: See `Request`.
        integrand: `integrand(func, t, y) -> (func(t, y), rate)`, `rate` a scalar that is to
            be integrated along the path, or `None`. It is a quadrature: a Runge-Kutta solver
            takes the same steps with it and without.
        context: As in `Problem`.

    Returns:
        `(states, integral, stats)`; the integral is taken over `|dt|` and is 0 where there
        is no integrand.
    """
    gradient.check(solver)
    if converter() == "onnx" and not isinstance(gradient, Inference):
        raise ValueError(
            "ONNX has no solves but those of `tfnode.ODEBlock`. Export the model by "
            'format="tf_saved_model".'
        )
    t, step_times = stacked(t), stacked(step_times)
    if independent is None:
        independent = rank(t) == 2
    if not independent:
        times: Callable = functools.partial(times_tensor, t)
    else:
        _check_independent(solver, integrand)
        times = functools.partial(clocks, t)
    problem = Problem(func, y0, times, integrand, independent, step_times, context)
    # A backward solve with step times starts again from the state at each of them.
    last_only = final_only and step_times is None
    # Of two times only the last takes solving.
    stack = problem.times.shape[-1] == 2 and not final_only and step_times is None
    request = Request(
        solver=drivable(solver),
        time_gradient=tf.is_tensor(t) or tf.is_tensor(step_times),
        final_only=last_only or stack,
        counters=counters,
    )
    outputs, stats = gradient.solve(problem, request)
    states, quadratures = outputs[: len(problem.y0)], outputs[len(problem.y0) :]
    if stack:
        states = [tf.stack(pair) for pair in zip(problem.y0, states)]
    elif not last_only:
        requested = problem.times
        if step_times is not None:
            states, requested = problem.requested(states)
        if independent:
            states = at_last_times(states, requested)
        if final_only:
            states = [x[-1] for x in states]
    dtype = problem.time_dtype
    integral = tf.zeros([], dtype)
    if quadratures:
        integral = tf.cast(tf.sign(problem.times[-1]), dtype) * quadratures[0]
    return problem.result(states), integral, stats


def _check_independent(solver: Any, integrand: Any) -> None:
    """Raise `ValueError` for what cannot be solved sample by sample."""
    if not drivable(solver).tells_steps:
        raise ValueError(
            "Independent samples need a Runge-Kutta solver of `tfnode.solvers`; TFP's take one "
            f"step for all. Received: solver={solver}"
        )
    if integrand is not None:
        raise ValueError(
            "Regularizers along the path need steps that the batch shares. Give times of shape "
            "(n,), without `independent`, or no regularizers."
        )
