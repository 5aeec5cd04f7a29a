"""`Problem`: an initial value problem in the form that solvers and gradients take."""

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.autograph.pyct import errors, parser

from tfnode.field_scopes import PinnedSeeds
from tfnode.solvers.failure import checked, compiled_by_xla, finite
from tfnode.solvers.rows import Rows, take
from tfnode.vector_field import VectorField


def converted(func: Any) -> Any:
    """Return the function as AutoGraph converts it where this is called.

    In eager mode functions are converted, too, since they are traced there as well. Lambdas are
    not: they have no statements, and AutoGraph often cannot find their source.
    """
    if not callable(func) or isinstance(func, keras.layers.Layer):
        return func
    autograph = tf.__internal__.autograph
    context = autograph.control_status_ctx()
    if tf.executing_eagerly() and context.status.name == "UNSPECIFIED":
        if getattr(func, "__name__", "") == "<lambda>":
            return func
        context = type(context)(status=type(context.status).ENABLED)
    elif getattr(func, "__name__", "") == "<lambda>":
        # AutoGraph would say so, call after call, and take the lambda as it is.
        try:
            parser.parse_entity(func, ())
        except errors.PyCTError:
            return func
    return autograph.tf_convert(func, context)


_STACK = ". A list holds several states. `tf.stack` joins its elements to one tensor."


class Problem:
    """An ODE and where it starts: over lists of tensors, float32 or float64.

    The solver's time counts from the first of the times, since float32 resolves a clock near
    zero better than one that shows 36,000 seconds. The dynamics get the time of the caller.

    Args:
        func: As in `tfnode.odeint`, through `converted`.
        y0: As in `tfnode.odeint`.
        t: `t(dtype)`, 1-D tensor of at least one time, float32 or float64. The first is that of
            `y0`. Where the samples are independent, `(n,)` or `(batch, n)`.
        integrand: As in `tfnode.integrate.solve`.
        independent: Whether every sample has its own clock.

    Attributes:
        y0: List of tensors, the state at `times[0]`.
        quadratures: List of tensors, zeros like the integrands: the state never depends on
            them, so that they have no part in the error that an adaptive solver controls.
        time_dtype: The dtype of the times that the dynamics get.
        times: The time elapsed since the first of `t`: 1-D, or `(batch, n)`.
        origin: The first of `t`: a scalar, or `(batch,)`.
        vector_field: The traced `VectorField`.
        drop: Whether evaluations may leave out samples, a boolean or a boolean scalar.

    Raises:
        ValueError: If the dynamics cannot be called, do not return the structure and shape of
            the state, or draw from TensorFlow's own random generators; if there is no state.
        TypeError: If the state or the derivative is not floating.
    """

    def __init__(
        self,
        func: Any,
        y0: Any,
        t: Callable,
        integrand: Callable | None = None,
        independent: bool = False,
    ):
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
        self.quadratures = [] if integrand is None else [tf.zeros([], self.time_dtype)]
        # One row for each sample: whoever adds to it, a context say, has it gathered.
        self._own: list = []
        self.drop: Any = False
        if independent:
            self._set_clocks(t(self.time_dtype))
            self._trace_samples()
        else:
            self._set_times(t(self.time_dtype))
            self.vector_field = VectorField(self._evaluate, self.times.dtype, self.y0)

    def field(
        self, t: tf.Tensor, y: Sequence[tf.Tensor], rows: Rows | None = None
    ) -> tuple[list, list]:
        """Evaluate the dynamics directly, with their updates of Keras variables.

        Returns:
            The derivative at `(t, y)` and the integrands of the quadratures there.
        """
        seeds = self.vector_field.seeds
        with PinnedSeeds(seeds) if seeds else contextlib.nullcontext():
            return self._evaluate(t, y, *(take(x, rows) for x in self._own))

    def refuse_random(self) -> None:
        """Raise if the dynamics draw random numbers, for an event, which takes several solves."""
        if self.vector_field.seeds:
            raise ValueError(
                "The dynamics draw random numbers, but an event takes several solves, each of "
                "which would draw others. Draw the noise before the solve and let the dynamics "
                "close over it, or call the layers with `training=False`."
            )

    def caller_time(self, t: tf.Tensor, *own: tf.Tensor) -> tf.Tensor:
        """Return the caller's time at an elapsed time `t`, in the dtype `time_dtype`."""
        if self._origin is not None:
            origin, earliest, latest = own or (self._origin, self._earliest, self._latest)
            # Rounding must not leave the interval, where the dynamics need not be defined.
            t = tf.clip_by_value(origin + t, earliest, latest)
        return tf.cast(t, self.time_dtype)

    @property
    def origin(self) -> tf.Tensor:
        return tf.zeros_like(self.times[..., 0]) if self._origin is None else self._origin

    def pack(self, y: Sequence[tf.Tensor]) -> Any:
        """Return the list as the structure of the state, in its dtypes."""
        y = [tf.cast(x, d) for x, d in zip(y, self._dtypes)]
        return tf.nest.pack_sequence_as(self._structure, y)

    def result(self, y: Sequence[tf.Tensor]) -> Any:
        """Return `pack` for the caller, checked: a state may be too large for its own dtype."""
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

    def _set_times(self, given: tf.Tensor) -> None:
        static = tf.get_static_value(given)
        if static is not None and static[0] == 0.0:
            self.times, self._origin = given, None
            return
        # Times that are wider than the state stay so.
        self.times, self._origin = given - given[0], given[0]
        several = given.shape[0] != 1
        infinity = tf.constant(math.inf, given.dtype)
        self._earliest = tf.minimum(given[0], given[-1]) if several else -infinity
        self._latest = tf.maximum(given[0], given[-1]) if several else infinity

    def _set_clocks(self, given: tf.Tensor) -> None:
        """Set the times of every sample, and make the shapes of the batch agree."""
        batch = tf.TensorShape([given.shape[0] if given.shape.rank == 2 else None])
        for y in self.y0:
            if y.shape.rank == 0:
                raise ValueError(
                    "Independent samples need a state whose tensors all have the batch as first "
                    f"axis. Received: a state with a tensor of shape {y.shape}"
                )
            if not batch.is_compatible_with(y.shape[:1]):
                raise ValueError(
                    "Independent samples need the same number of rows in every tensor of the state "
                    "and in times `t` of shape (batch, n). "
                    f"Received: t of shape {given.shape}, y0 of shapes {[x.shape for x in self.y0]}"
                )
            batch = batch.merge_with(y.shape[:1])
        if given.shape.rank == 1:
            shape = [batch[0] or tf.shape(self.y0[0])[0], given.shape[0] or tf.size(given)]
            given = tf.broadcast_to(given, tf.stack(shape))
        if batch[0] is None:
            sizes = tf.stack([tf.shape(x)[0] for x in (given, *self.y0)])
            given = checked(
                given,
                tf.reduce_any(tf.not_equal(sizes, sizes[0])),
                "Independent samples need the same number of rows in every tensor of `y0` and in "
                "the times `t`.",
                "rows of the times, then of each tensor =",
                sizes,
            )
        given.set_shape([batch[0], given.shape[1]])
        for y in self.y0:
            y.set_shape([batch[0], *y.shape[1:]])
        static = tf.get_static_value(given)
        self._origin, self.times = None, given
        if static is None or (static[:, 0] != 0.0).any():
            start, end = given[:, 0], given[:, -1]
            self.times, self._origin = given - start[:, tf.newaxis], start
            self._earliest, self._latest = tf.minimum(start, end), tf.maximum(start, end)
            self._own = [self._origin, self._earliest, self._latest]

    def _trace_samples(self) -> None:
        """Trace the dynamics for batches of any size, or else for this one alone."""

        def traced(size: int | None) -> VectorField:
            return VectorField(self._evaluate, self.times.dtype, self.y0, self._own, (size,))

        static = self.y0[0].shape[0]
        if compiled_by_xla():
            self.vector_field = traced(static)
        else:
            try:
                self.vector_field = traced(None)
            except (TypeError, ValueError, tf.errors.OpError):
                self.vector_field = traced(static)
            else:
                size = tf.shape(self.y0[0])[0] if static is None else static
                self.drop = self.vector_field.takes_parts(size)
        if self.vector_field.updates:
            raise ValueError(
                "Independent samples need dynamics that treat every sample by itself. These update "
                "variables, as batch normalisation does in training, whose statistics are those "
                "of the batch. Solve with times of shape (n,) and without `independent`, or call "
                "the layer with `training=False`."
            )

    def _evaluate(self, t: tf.Tensor, y: Sequence[tf.Tensor], *own: tf.Tensor) -> tuple[list, list]:
        y, t = self.pack(y), self.caller_time(t, *own)
        if self._integrand is None:
            dy, rates = self._call(t, y), []
        else:
            dy, *rates = self._integrand(self._call, t, y)
        dy = [tf.cast(x, d) for x, d in zip(_derivative(dy, y), self._wide)]
        return dy, [tf.cast(x, self.time_dtype) for x in rates]


def _state_tensor(y):
    if isinstance(y, keras.KerasTensor):
        raise ValueError(
            "`odeint` takes tensors with values. In a functional model use `tfnode.ODEBlock`, or "
            f"a layer whose `call` calls `odeint`. Received: a symbolic tensor of shape {y.shape}"
        )
    y = tf.convert_to_tensor(y)
    if not y.dtype.is_floating:
        raise TypeError(
            "The state `y0` must be made of float tensors; cast it first, for example by "
            f"`tf.cast(y0, tf.float32)`. Received: dtype={y.dtype.name}, shape={y.shape}"
        )
    return y


def caller(func: Any, context: Any = None) -> Callable:
    """Return the dynamics as a function of `(t, y)`.

    Args:
        func: As in `tfnode.odeint`.
        context: A nest of tensors that the dynamics take as a third argument, or `None`.

    Raises:
        ValueError: If the dynamics are not callable, or are a layer of other arguments.
    """
    if not callable(func):
        raise ValueError(
            "The dynamics must be a callable `func(t, y)`, a Keras layer or a Keras model. "
            f"Received: func={func!r}"
        )
    told = () if context is None else (context,)
    if not isinstance(func, keras.layers.Layer):
        return (lambda t, y: func(t, y, context)) if told else func
    # Functional models have one argument for all of their inputs.
    inputs = len(getattr(func, "inputs", None) or [None])
    arguments = [
        p
        for p in inspect.signature(func.call).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and p.name not in ("training", "mask")
    ]
    if (len(arguments), inputs) == (1, 1) and not told:
        return lambda t, y: func(y)
    if (len(arguments), inputs) == (1, 2 + len(told)):
        return lambda t, y: func([t, y, *told])
    if len(arguments) == 2 + len(told):
        return lambda t, y: func(t, y, *told)
    wanted = (
        "three, the time, the state and the context: `call(self, t, y, context)`"
        if told
        else "one input, the state, or two, the time and the state: `call(self, t, y)`"
    )
    raise ValueError(
        f"A layer or model for the dynamics takes {wanted}. Received: {type(func).__name__} with "
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
            + (_STACK if isinstance(dy, (list, tuple)) != isinstance(y, (list, tuple)) else "")
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
