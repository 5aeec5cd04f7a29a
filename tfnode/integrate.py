"""`odeint`: the one door to the solvers and gradients."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state

from tfnode import gradients, solvers
from tfnode.gradients.problem import Problem
from tfnode.solvers.foreign import drivable


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
            its times in the dtype of the state, at least float32. Give a tensor where
            gradients in the times are wanted.
        solver: A name, config or instance: see `tfnode.solvers`.
        gradient: A name, config or instance: see `tfnode.gradients`.
        return_stats: Whether to return the cost of the solve too.

    Returns:
        The states at `t`, stacked on a new leading axis, `[0]` being `y0`; with
        `return_stats`, `(states, stats)` where `stats` is a NamedTuple of scalar int32
        tensors `num_evaluations`, `num_steps`, `num_rejected`.

    Raises:
        ValueError: If the arguments do not fit: unknown solver or gradient, times that are
            not 1-D, too few or not monotonic, a derivative unlike the state.
        TypeError: If a state or the times are not floating.
        tf.errors.InvalidArgumentError: If times known only at run time are not monotonic.

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


def converted(func):
    """The function as AutoGraph sees it here: it shall convert what the user wrote only."""
    autograph = tf.__internal__.autograph
    if callable(func) and not isinstance(func, keras.layers.Layer):
        return autograph.tf_convert(func, autograph.control_status_ctx())
    return func


@tf.autograph.experimental.do_not_convert
def _solve(func, y0, t, solver, gradient, final_only, on_backward, integrand):
    system = System(func, y0, integrand)
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
        narrow=system.narrow,
    )
    outputs, stats = gradient.solve(problem)
    states, quadratures = outputs[: len(system.y0)], outputs[len(system.y0) :]
    if stack:
        states = [tf.stack(pair) for pair in zip(system.y0, states)]
    direction = tf.cast(tf.sign(times[-1] - times[0]), system.time_dtype)
    integral = direction * quadratures[0] if quadratures else tf.zeros([], system.time_dtype)
    return system.pack(states), integral, stats


class System:
    """An ODE in the form that solvers work on: over lists of tensors, float32 or float64.

    Args:
        func, y0: As in `odeint`.
        integrand: As in `solve`.

    Attributes:
        y0: List of tensors, the initial state.
        time_dtype: That of the times.
        narrow: See `Problem`.
    """

    def __init__(self, func, y0, integrand=None):
        self._call = caller(func)
        self._integrand = integrand
        self._structure = tf.nest.map_structure(_state_tensor, y0)
        leaves = tf.nest.flatten(self._structure)
        if not leaves:
            raise ValueError(f"`y0` must hold at least one tensor. Received: y0={y0}")
        self._dtypes = [y.dtype for y in leaves]
        self._wide = [tf.float32 if d.size < 4 else d for d in self._dtypes]
        self.narrow = tf.float16 in self._dtypes
        self.time_dtype = tf.float64 if tf.float64 in self._wide else tf.float32
        self.y0 = [tf.cast(y, d) for y, d in zip(leaves, self._wide)]
        self._scopes = _KerasScopes()

    def pack(self, y):
        """The list as the structure of the state, in its dtypes."""
        y = [tf.cast(x, d) for x, d in zip(y, self._dtypes)]
        return tf.nest.pack_sequence_as(self._structure, y)

    def field(self, t, y):
        """The derivative at `(t, y)` and the integrands of the quadratures there."""
        y, t = self.pack(y), tf.cast(t, self.time_dtype)
        if self._integrand is None:
            dy, rates = self._call(t, y), []
        else:
            dy, *rates = self._integrand(self._call, t, y)
        dy = [tf.cast(x, d) for x, d in zip(_derivative(dy, y), self._wide)]
        return dy, [tf.cast(x, self.time_dtype) for x in rates]

    def replay(self, t, y):
        """`field`, beside the forward solve: no layer in it updates its state."""
        with self._scopes:
            return self.field(t, y)


def _state_tensor(y):
    y = tf.convert_to_tensor(y)
    if not y.dtype.is_floating:
        raise TypeError(
            "The state `y0` must be made of float tensors; cast it first, for example by "
            f"`tf.cast(y0, tf.float32)`. Received: dtype={y.dtype.name}, shape={y.shape}"
        )
    return y


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
    monotonic &= tf.reduce_all(tf.math.is_finite(times))
    message = "The times `t` must be finite and strictly increasing or strictly decreasing."
    check = tf.debugging.Assert(monotonic, [message, "Received: t =", times], summarize=20)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(times)


def caller(func):
    """`func` as a function of `(t, y)`."""
    if not callable(func):
        raise ValueError(
            "The dynamics must be a callable `func(t, y)`, a Keras layer or a Keras model. "
            f"Received: func={func!r}"
        )
    if not isinstance(func, keras.layers.Layer):
        return func
    # Functional models have one argument for all of their inputs.
    inputs = len(getattr(func, "inputs", None) or [None])
    arguments = [
        p
        for p in inspect.signature(func.call).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and p.name not in ("training", "mask")
    ]
    if (len(arguments), inputs) == (1, 1):
        return lambda t, y: func(y)
    if (len(arguments), inputs) == (1, 2):
        return lambda t, y: func([t, y])
    if len(arguments) == 2:
        return func
    raise ValueError(
        "A layer or model for the dynamics takes one input, the state, or two, the time and "
        f"the state: `call(self, t, y)`. Received: {type(func).__name__} with "
        f"call{inspect.signature(func.call)} and {inputs} input(s)"
    )


def _derivative(dy, y):
    """The leaves of `dy`, checked against the state `y`."""
    try:
        tf.nest.assert_same_structure(y, dy)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "The dynamics must return the structure of the state, since they are its "
            f"derivative. Received: {dy} for a state {y}"
        ) from error
    leaves = tf.nest.flatten(dy)
    if any(x is None for x in leaves):
        raise ValueError(
            "The dynamics must return the derivative of the state; is a `return` missing? "
            f"Received: {dy}"
        )
    leaves = [tf.convert_to_tensor(x) for x in leaves]
    for x, state in zip(leaves, tf.nest.flatten(y)):
        if not x.shape.is_compatible_with(state.shape):
            raise ValueError(
                "The dynamics must return the shape of the state, since they are its "
                f"derivative. Received: a derivative of shape {x.shape} for a state of "
                f"shape {state.shape}"
            )
        if not x.dtype.is_floating:
            raise TypeError(f"The dynamics must return floats. Received: dtype={x.dtype.name}")
    return leaves


class _KerasScopes:
    """The thread-local state of Keras at construction, to enter again in a backward pass.

    Keras keeps the call context, which knows about `training`, and the autocast scope of
    mixed precision in thread-local state, and closes them when the outermost layer
    returns. Without them, layers called in a backward solve would fall back to inference,
    read their variables uncast, and clear the losses of the forward pass.

    Inside, updates of Keras's variables are dropped, so that running averages and seeds
    see the forward solve alone.
    """

    NAMES = ("current_call_ctx", "autocast_scope")

    def __init__(self):
        self._saved = {name: global_state.get_global_attribute(name) for name in self.NAMES}
        self._stateless = global_state.get_global_attribute("stateless_scope")
        self._stack = []

    def __enter__(self):
        before = {name: global_state.get_global_attribute(name) for name in self.NAMES}
        scope = keras.StatelessScope()
        if self._stateless is not None:
            scope.state_mapping = dict(self._stateless.state_mapping)
        self._stack.append((before, scope))
        for name, value in self._saved.items():
            global_state.set_global_attribute(name, value)
        scope.__enter__()

    def __exit__(self, *error):
        before, scope = self._stack.pop()
        scope.__exit__(*error)
        for name, value in before.items():
            global_state.set_global_attribute(name, value)
