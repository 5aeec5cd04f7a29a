"""`Problem`: an initial value problem in the form that solvers and gradients take."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfnode.problem.field.calls import caller, derivative, state_tensor
from tfnode.problem.field.scopes import Pinned
from tfnode.problem.field.vector_field import VectorField
from tfnode.problem.samples import by_sample
from tfnode.problem.step_times import Pieces, merged
from tfnode.problem.times import at_places
from tfnode.solvers.failure import checked, compiled_by_xla, finite
from tfnode.solvers.rows import Rows, take


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
        step_times: Times on which a step must end, as in `tfnode.odeint`; `None` for no others.
        context: A nest of tensors that the dynamics take as a third argument, or `None`. Where the
            samples are independent, each of its tensors is a scalar or has a row for each sample.

    Attributes:
        y0: List of tensors, the state at `times[0]`.
        quadratures: List of tensors, zeros like the integrands: the state never depends on
            them, so that they have no part in the error that an adaptive solver controls.
        time_dtype: The dtype of the times that the dynamics get.
        times: The time elapsed since the first of `t`: 1-D, or `(batch, n)`. The step times are
            among them.
        places: The positions of the times of `t`, see `Merged`; `None` where they are all.
        stops: As in `Solve`.
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
        step_times: Any = None,
        context: Any = None,
    ):
        self._call = caller(func, context is not None)
        self._context = context
        self._integrand = integrand
        self._structure = tf.nest.map_structure(state_tensor, y0)
        leaves = tf.nest.flatten(self._structure)
        if not leaves:
            raise ValueError(f"`y0` must hold at least one tensor. Received: y0={y0}")
        self._dtypes = [y.dtype for y in leaves]
        self._wide = [tf.float32 if d.size < 4 else d for d in self._dtypes]
        self.time_dtype = tf.float64 if tf.float64 in self._wide else tf.float32
        self.y0 = [tf.cast(y, d) for y, d in zip(leaves, self._wide)]
        self.quadratures = [] if integrand is None else [tf.zeros([], self.time_dtype)]
        # What has one row for each sample: the clock, then the context.
        self._per_sample: list = []
        self.drop: Any = False
        given = t(self.time_dtype)
        rows = []
        if independent:
            rows = [x for x in tf.nest.flatten(context) if _has_rows(x)]
            given, rows = by_sample(given, self.y0, rows)
        self.places: Any = None
        self.stops: tf.Tensor | None = None
        if step_times is not None:
            given, self.places, self.stops = merged(given, step_times)
        self._set_times(given)
        if independent:
            self._per_sample = [*self._clock, *rows]
            self._trace_samples()
        else:
            self.vector_field = VectorField(self._evaluate, self.times.dtype, self.y0)

    def field(
        self, t: tf.Tensor, y: Sequence[tf.Tensor], rows: Rows | None = None
    ) -> tuple[list, list]:
        """Evaluate the dynamics directly, with their updates of Keras variables.

        Returns:
            The derivative at `(t, y)` and the integrands of the quadratures there.
        """
        field = self.vector_field
        pinned = field.seeds or field.starts
        with Pinned(field.seeds, field.starts) if pinned else contextlib.nullcontext():
            return self._evaluate(t, y, *(take(x, rows) for x in self._per_sample))

    def refuse_random(self) -> None:
        """Raise if the dynamics draw random numbers, for an event, which takes several solves."""
        if self.vector_field.seeds:
            raise ValueError(
                "The dynamics draw random numbers, but an event takes several solves, each of "
                "which would draw others. Draw the noise before the solve and let the dynamics "
                "close over it, or call the layers with `training=False`."
            )

    def caller_time(self, t: tf.Tensor, *per_sample: tf.Tensor) -> tf.Tensor:
        """Return the caller's time at an elapsed time `t`, in the dtype `time_dtype`."""
        clock = per_sample or self._clock
        if not clock:
            return tf.cast(t, self.time_dtype)
        origin, *bounds = clock
        if self.stops is not None:
            return Pieces(*bounds).clip(t, tf.cast(origin + t, self.time_dtype))
        # Rounding must not leave the interval, where the dynamics need not be defined.
        return tf.cast(tf.clip_by_value(origin + t, *bounds), self.time_dtype)

    @property
    def origin(self) -> tf.Tensor:
        return self._clock[0] if self._clock else tf.zeros_like(self.times[..., 0])

    def pack(self, y: Sequence[tf.Tensor]) -> Any:
        """Return the list as the structure of the state, in its dtypes."""
        y = [tf.cast(x, d) for x, d in zip(y, self._dtypes)]
        return tf.nest.pack_sequence_as(self._structure, y)

    def requested(self, states: list) -> tuple[list, tf.Tensor]:
        """Return the states and the times elapsed, at the requested times without step times.

        Args:
            states: List of tensors, stacked over `times`.
        """
        if self.times.shape.rank == 1:
            # With `batch_dims` the gradient of a gather is dense.
            states = [
                tf.gather(x[tf.newaxis], self.places[tf.newaxis], batch_dims=1)[0] for x in states
            ]
            return states, tf.gather(self.times, self.places)
        times = tf.gather(self.times, self.places, batch_dims=1)
        return at_places(states, self.places), times

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
        """Set the times of the solver, and the clock: what turns them into those of the caller.

        The clock is empty where they are the same. Else it holds the first time, then the
        earliest and the latest one or, with step times, the `Pieces`.
        """
        static = tf.get_static_value(given)
        if self.stops is None and static is not None and not static[..., 0].any():
            self.times, self._clock = given, []
            return
        # Times that are wider than the state stay so.
        start, end = given[..., 0], given[..., -1]
        self.times = given - given[..., :1]
        if self.stops is not None:
            self._clock = [start, *Pieces.between(given, self.time_dtype)]
        elif given.shape[-1] == 1:
            infinity = tf.constant(math.inf, given.dtype)
            self._clock = [start, -infinity, infinity]
        else:
            self._clock = [start, tf.minimum(start, end), tf.maximum(start, end)]

    def _told(self, rows: Sequence[tf.Tensor]) -> tuple:
        """Return what the dynamics take after the state: nothing, or the context.

        Args:
            rows: In place of all tensors of the context that have a row for each sample.
        """
        if self._context is None:
            return ()
        left = list(rows)

        def told(x: Any) -> Any:
            return left.pop(0) if left and _has_rows(x) else x

        return (tf.nest.map_structure(told, self._context),)

    def _trace_samples(self) -> None:
        """Trace the dynamics for batches of any size, or else for this one alone."""

        def traced(size: int | None) -> VectorField:
            return VectorField(self._evaluate, self.times.dtype, self.y0, self._per_sample, (size,))

        static = self.y0[0].shape[0]
        if compiled_by_xla():
            self.vector_field = traced(static)
        else:
            size = tf.shape(self.y0[0])[0] if static is None else static
            try:
                self.vector_field = traced(None)
                self.drop = self.vector_field.takes_parts(size)
            except (TypeError, ValueError, tf.errors.OpError):
                self.vector_field = traced(static)
        if self.vector_field.updates:
            raise ValueError(
                "Independent samples need dynamics that treat every sample by itself. These update "
                "variables, as batch normalisation does in training, whose statistics are those "
                "of the batch. Solve with times of shape (n,) and without `independent`, or call "
                "the layer with `training=False`."
            )

    def _evaluate(
        self, t: tf.Tensor, y: Sequence[tf.Tensor], *per_sample: tf.Tensor
    ) -> tuple[list, list]:
        size = len(self._clock)
        y, t = self.pack(y), self.caller_time(t, *per_sample[:size])
        told = self._told(per_sample[size:])

        def func(t: tf.Tensor, y: Any) -> Any:
            return self._call(t, y, *told)

        if self._integrand is None:
            dy, rates = func(t, y), []
        else:
            dy, *rates = self._integrand(func, t, y)
        dy = [tf.cast(x, d) for x, d in zip(derivative(dy, y), self._wide)]
        return dy, [tf.cast(x, self.time_dtype) for x in rates]


def _has_rows(x: Any) -> bool:
    """Return whether a part of the context has a row for each sample: all but scalars do."""
    return tf.is_tensor(x) and x.shape.rank != 0
