"""What a user calls an ODE, as the solvers take it."""

import inspect

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

from tfnode.solvers.trajectory import checked, finite


def converted(func):
    """The function as AutoGraph sees it here: it shall convert what the user wrote only."""
    autograph = tf.__internal__.autograph
    if callable(func) and not isinstance(func, keras.layers.Layer):
        return autograph.tf_convert(func, autograph.control_status_ctx())
    return func


class System:
    """An ODE in the form that solvers work on: over lists of tensors, float32 or float64.

    Args:
        func, y0: As in `odeint`.
        integrand: As in `solve`.

    Attributes:
        y0: List of tensors, the initial state.
        time_dtype: That of the times.
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
        self.time_dtype = tf.float64 if tf.float64 in self._wide else tf.float32
        self.y0 = [tf.cast(y, d) for y, d in zip(leaves, self._wide)]
        self._scopes = _KerasScopes()

    def pack(self, y):
        """The list as the structure of the state, in its dtypes."""
        y = [tf.cast(x, d) for x, d in zip(y, self._dtypes)]
        return tf.nest.pack_sequence_as(self._structure, y)

    def result(self, y):
        """`pack` for the caller: a state may be too large for its own dtype."""
        packed = self.pack(y)
        halves = [x for x in tf.nest.flatten(packed) if x.dtype.size < 4]
        if not halves:
            return packed
        return checked(
            packed,
            ~finite(halves),
            "The solution is too large for the dtype of its state. Use float32 or bfloat16.",
            "dtype =",
            halves[0].dtype.name,
        )

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
