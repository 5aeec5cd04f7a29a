"""`odeint`: the one door to the solvers and gradients."""

import contextlib
import datetime
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfnode import gradients, solvers
from tfnode.gradients.base import Request
from tfnode.problem import Problem, converted
from tfnode.solvers.failure import checked
from tfnode.solvers.foreign import drivable


def odeint(
    func: Callable,
    y0: Any,
    t: Any,
    *,
    solver: Any = "dopri5",
    gradient: Any = None,
    independent: bool | None = None,
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
    no variable, whose first axis is as long as the batch; and where they cannot be traced with a
    batch of another size, as with a variable that has a row for each sample.

    Raises:
        ValueError: If the arguments do not fit: unknown solver or gradient, or two that do not
            go together, times that are not 1-D, too few or not monotonic, a derivative unlike
            the state; if the dynamics draw by `tf.random`, or hold plain batch normalisation
            in training; if the samples are independent and the dynamics hold any batch
            normalisation in training, the gradient is 'adjoint', or the solver is TFP's.
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
    solver = solvers.for_solve(solver, **options)
    gradient = gradients.get(gradient, solver)
    states, _, stats = solve(func, y0, t, solver, gradient, independent=independent)
    return (states, stats) if return_stats else states


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
) -> tuple[Any, tf.Tensor, Any]:
    """Solve as `odeint` does, for layers.

    Args:
        func, y0, t: As in `odeint`.
        solver, gradient: Instances.
        final_only: Whether to return the state at the last time alone, without the time
            axis. Nothing is stored for the others.
        counters: See `Request`.
        integrand: `integrand(func, t, y) -> (func(t, y), rate)`, `rate` a scalar that is to
            be integrated along the path, or `None`. It is a quadrature: a Runge-Kutta solver
            takes the same steps with it and without.

    Returns:
        `(states, integral, stats)`; the integral is taken over `|dt|` and is 0 where there
        is no integrand.
    """
    options = final_only, counters, integrand, independent
    return _solve(converted(func), y0, t, solver, gradient, *options)


@tf.autograph.experimental.do_not_convert
def _solve(func, y0, t, solver, gradient, final_only, counters, integrand, independent):
    gradient.check(solver)
    if isinstance(t, (list, tuple)) and any(tf.is_tensor(x) for x in t):
        # NumPy, which takes other lists, would lose the gradients in the tensors.
        wide = tf.float64
        t = tf.stack([tf.cast(x, wide) if tf.is_tensor(x) else tf.constant(x, wide) for x in t])
    if independent is None:
        independent = _rank(t) == 2
    if not independent:
        times = functools.partial(times_tensor, t)
    else:
        _check_independent(solver, gradient, integrand)
        times = functools.partial(clocks, t)
    problem = Problem(func, y0, times, integrand, independent)
    # Of two times only the last takes solving.
    stack = problem.times.shape[-1] == 2 and not final_only
    request = Request(
        solver=drivable(solver),
        time_gradient=tf.is_tensor(t),
        final_only=final_only or stack,
        counters=counters,
    )
    outputs, stats = gradient.solve(problem, request)
    states, quadratures = outputs[: len(problem.y0)], outputs[len(problem.y0) :]
    if stack:
        states = [tf.stack(pair) for pair in zip(problem.y0, states)]
    if independent and not stack and not final_only:
        states = _at_last_times(states, problem.times)
    dtype = problem.time_dtype
    integral = tf.zeros([], dtype)
    if quadratures:
        integral = tf.cast(tf.sign(problem.times[-1]), dtype) * quadratures[0]
    return problem.result(states), integral, stats


def times_tensor(t, dtype):
    """The times as a tensor, checked: at trace time where known, else at run time."""
    given = _given(t)
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


def _rank(t: Any) -> int | None:
    return t.shape.rank if tf.is_tensor(t) else np.ndim(t)


def _check_independent(solver: Any, gradient: gradients.Gradient, integrand: Any) -> None:
    """Raise `ValueError` for what cannot be solved sample by sample."""
    if not drivable(solver).tells_steps:
        raise ValueError(
            "Independent samples need a Runge-Kutta solver of `tfnode.solvers`; TFP's take one "
            f"step for all. Received: solver={solver}"
        )
    if not gradient.independent:
        raise ValueError(
            f"The gradient '{gradient.name}' has no independent samples. Use "
            "gradient='checkpoint', or 'backprop'."
        )
    if integrand is not None:
        raise ValueError(
            "Regularizers along the path need steps that the batch shares. Give times of shape "
            "(n,), without `independent`, or no regularizers."
        )


def clocks(t: Any, dtype: tf.DType) -> tf.Tensor:
    """Return the times of independent samples, checked: `(n,)` for all, or `(batch, n)`."""
    if _rank(t) != 2:
        return times_tensor(t, dtype)
    given = _given(t)
    if given.shape[1] is not None and given.shape[1] < 2:
        raise ValueError(
            "`t` of shape (batch, n) must hold at least two times for each sample, the first being "
            f"that of `y0`. Received: t of shape {given.shape}"
        )
    times = given if given.dtype.size > dtype.size else tf.cast(given, dtype)
    static = tf.get_static_value(times)
    expected = (
        "The times `t` of each sample must be finite and strictly increasing or strictly "
        "decreasing, but for the last one, which may be repeated at the end."
    )
    valid = _rows_are_valid(times if static is None else static)
    if static is None:
        times = checked(times, ~tf.reduce_all(valid), expected, "t =", times, summarize=20)
    elif not valid.numpy().all():
        row = int(np.argmin(valid))
        raise ValueError(f"{expected} Received: t={static[row]} for sample {row}")
    places = _last_places(times)
    # Repeated times have no gradients of their own.
    return times if places is None else tf.gather(times, places, batch_dims=1)


def _rows_are_valid(times: Any) -> tf.Tensor:
    with tf.init_scope() if isinstance(times, np.ndarray) else contextlib.nullcontext():
        steps = times[:, 1:] - times[:, :-1]
        direction = tf.sign(times[:, -1:] - times[:, :1])
        # After a step of length zero there are no others.
        following = tf.concat([steps[:, 1:], tf.zeros_like(steps[:, :1])], 1)
        fine = (steps * direction > 0.0) | (tf.equal(steps, 0.0) & tf.equal(following, 0.0))
        return tf.reduce_all(fine, 1) & tf.reduce_all(tf.math.is_finite(times), 1)


def _last_places(times: tf.Tensor) -> tf.Tensor | None:
    """Return for each time the index of the first that equals it, `(batch, n)`.

    `None` where it is known that no sample repeats its last time.
    """
    static = tf.get_static_value(times)
    if static is not None and (static[:, 1:] != static[:, :-1]).all():
        return None
    last = tf.math.count_nonzero(times[:, 1:] - times[:, :-1], 1, dtype=tf.int32)
    return tf.minimum(tf.range(tf.shape(times)[1]), last[:, tf.newaxis])


def _at_last_times(states: list, times: tf.Tensor) -> list:
    """Return the states `(n, batch, ...)`, where the last time is repeated those there."""
    places = _last_places(times)
    if places is None:
        return states
    places = tf.transpose(places)
    samples = tf.range(tf.shape(places)[1]) + tf.zeros_like(places)
    index = tf.stack([places, samples], 2)
    return [tf.ensure_shape(tf.gather_nd(x, index), x.shape) for x in states]


def _given(t: Any) -> tf.Tensor:
    """Return the times as a float tensor in its own dtype."""
    try:
        # Lists are float32 to TensorFlow, which loses digits.
        given = tf.convert_to_tensor(t if tf.is_tensor(t) else _numbers(t))
    except (TypeError, ValueError) as error:
        raise TypeError(
            "The times `t` must be real numbers. Turn dates into the time since the first of "
            "them, for example by `(dates - dates[0]) / np.timedelta64(1, 'D')`. "
            f"Received: t={t}"
        ) from error
    if not given.dtype.is_floating:
        raise TypeError(f"The times `t` must be floats. Received: dtype={given.dtype.name}")
    return given


def _numbers(t: Any) -> np.ndarray:
    dates = np.asarray(t).dtype.kind in "mM" or any(
        isinstance(x, (datetime.date, datetime.timedelta)) for x in np.ravel(np.asarray(t))[:1]
    )
    if dates:
        raise TypeError("dates have no unit that the dynamics could know")
    return np.asarray(t, np.float64)
