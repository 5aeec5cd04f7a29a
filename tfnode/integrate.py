"""`odeint`: the one door to the solvers and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfnode import gradients, solvers
from tfnode.gradients.problem import Problem
from tfnode.solvers.foreign import drivable
from tfnode.solvers.trajectory import checked
from tfnode.system import System, converted


def odeint(
    func: Callable,
    y0: Any,
    t: Any,
    *,
    solver: Any = "dopri5",
    gradient: Any = "adjoint",
    return_stats: bool = False,
) -> Any:
    """Solves the initial value problem `dy/dt = func(t, y)`, `y(t[0]) = y0`.

    Args:
        func: A callable, a Keras layer or a Keras model, called as `func(t, y)` with `t` a
            scalar tensor. It returns the derivative: the structure and shapes of `y`. A
            layer or model that takes one input is autonomous and gets `y` alone.
        y0: A float tensor of any shape, or any nested structure of them. A half-precision
            state is carried in float32 by the solver; `func` sees it in its own dtype.
        t: 1-D, at least two times, strictly increasing or strictly decreasing. `func` gets
            its times in the dtype of the state, at least float32. Give a tensor, or a list
            with tensors in it, where gradients in the times are wanted.
        solver: A name, config or instance: see `tfnode.solvers`.
        gradient: A name, config or instance: see `tfnode.gradients`.
        return_stats: Whether to return the cost of the solve too.

    Returns:
        The states at `t`, stacked on a new leading axis, `[0]` being `y0`; with
        `return_stats`, `(states, stats)` where `stats` is a NamedTuple of scalar int32
        tensors `num_evaluations`, `num_steps`, `num_rejected`.

    Raises:
        ValueError: If the arguments do not fit: unknown solver or gradient, or two that do not
            go together, times that are not 1-D, too few or not monotonic, a derivative unlike
            the state.
        TypeError: If a state or the times are not floating.
        tf.errors.InvalidArgumentError: If times known only at run time are not monotonic, or
            if the solve fails, see `tfnode.solvers`; XLA has no assertions: there the states
            are NaN, except the first where `t` has two times.

    Example:
    ```python
    ys = tfnode.odeint(lambda t, y: -y, tf.constant([1.0]), [0.0, 0.5, 1.0], solver="rk4")
    ```

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018).
    """
    states, _, stats = solve(func, y0, t, solvers.get(solver), gradients.get(gradient))
    return (states, stats) if return_stats else states


def solve(func, y0, t, solver, gradient, *, final_only=False, on_backward=None, integrand=None):
    """`odeint` for layers.

    Args:
        func, y0, t: As in `odeint`.
        solver, gradient: Instances.
        final_only: Whether to return the state at the last time alone, without the time
            axis. Nothing is stored for the others.
        on_backward: See `Problem`.
        integrand: `integrand(func, t, y) -> (func(t, y), rate)`, `rate` a scalar that is to
            be integrated along the path, or `None`. It is a quadrature: a Runge-Kutta solver
            takes the same steps with it and without.

    Returns:
        `(states, integral, stats)`; the integral is taken over `|dt|` and is 0 where there
        is no integrand.
    """
    return _solve(converted(func), y0, t, solver, gradient, final_only, on_backward, integrand)


@tf.autograph.experimental.do_not_convert
def _solve(func, y0, t, solver, gradient, final_only, on_backward, integrand):
    gradient.check(solver)
    system = System(func, y0, integrand)
    if isinstance(t, (list, tuple)) and any(tf.is_tensor(x) for x in t):
        # NumPy, which takes other lists, would lose the gradients in the tensors.
        wide = tf.float64
        t = tf.stack([tf.cast(x, wide) if tf.is_tensor(x) else tf.constant(x, wide) for x in t])
    times = times_tensor(t, system.time_dtype)
    # Of two times only the last takes solving.
    stack = times.shape[0] == 2 and not final_only
    problem = Problem(
        field=system.field,
        replay=system.replay,
        y0=system.y0,
        quadratures=[] if integrand is None else [tf.zeros([], system.time_dtype)],
        times=times,
        solver=drivable(solver),
        time_gradient=tf.is_tensor(t),
        final_only=final_only or stack,
        on_backward=on_backward,
    )
    outputs, stats = gradient.solve(problem)
    states, quadratures = outputs[: len(system.y0)], outputs[len(system.y0) :]
    if stack:
        states = [tf.stack(pair) for pair in zip(system.y0, states)]
    direction = tf.cast(tf.sign(times[-1] - times[0]), system.time_dtype)
    integral = direction * quadratures[0] if quadratures else tf.zeros([], system.time_dtype)
    return system.result(states), integral, stats


def times_tensor(t, dtype):
    """The times as a tensor, checked: at trace time where known, else at run time."""
    try:
        # Lists are float32 to TensorFlow, which loses digits.
        given = tf.convert_to_tensor(t if tf.is_tensor(t) else np.asarray(t, np.float64))
    except (TypeError, ValueError) as error:
        raise TypeError(f"The times `t` must be real numbers. Received: t={t}") from error
    if not given.dtype.is_floating:
        raise TypeError(f"The times `t` must be floats. Received: dtype={given.dtype.name}")
    if given.shape.rank not in (None, 1):
        raise ValueError(f"The times `t` must be 1-D. Received: t of shape {given.shape}")
    if given.shape.rank == 1 and given.shape[0] is not None and given.shape[0] < 2:
        raise ValueError(
            "`t` must hold at least two times, the first being that of `y0`. "
            f"Received: t of {given.shape[0]} times"
        )
    # Wider times than the state's stay wide while their differences are taken.
    times = given if given.dtype.size > dtype.size else tf.cast(given, dtype)
    static = tf.get_static_value(times)
    steps = times[1:] - times[:-1]
    if static is not None:
        steps = static[1:] - static[:-1]
        if not np.isfinite(static).all() or not ((steps > 0).all() or (steps < 0).all()):
            raise ValueError(
                "The times `t` must be finite and strictly increasing or strictly "
                f"decreasing. Received: t={static}"
            )
        return times
    monotonic = tf.reduce_all(steps > 0) | tf.reduce_all(steps < 0)
    monotonic &= tf.reduce_all(tf.math.is_finite(times)) & (tf.size(times) > 1)
    # Where nothing can be raised, NaN goes through the solver into states and gradients.
    return checked(
        times,
        ~monotonic,
        "The times `t` must be at least two, finite and strictly increasing or strictly "
        "decreasing.",
        "t =",
        times,
        summarize=20,
    )
