"""`ErrorControl`: steps as long as the estimate of their error allows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfnode import checks
from tfnode.solvers import step_control
from tfnode.solvers.controller import Controller, Solve, checked_on_failure
from tfnode.solvers.error_pace import ErrorPace, RepeatedPace
from tfnode.solvers.record import Record, by_step, reached_before, totals_by_time
from tfnode.solvers.sample_pace import RepeatedSamplePace, SamplePace
from tfnode.solvers.solver import Field, State
from tfnode.solvers.stops import at, latest
from tfnode.solvers.trajectory import Trajectory


class ErrorControl(Controller):
    """A PI controller with one norm for the whole state.

    Args:
        rtol, atol, first_step, max_steps, on_failure, min_step, max_step, at_min_step: As in
            `Embedded`.

    Raises:
        ValueError: If an argument is out of range.

    Reference: Hairer, Wanner, *Solving Ordinary Differential Equations II* (1996), section IV.2.
    """

    adaptive = True

    def __init__(
        self,
        rtol: float | Sequence[float] = 1e-3,
        atol: float | Sequence[float] = 1e-6,
        first_step: float | None = None,
        max_steps: int = 4096,
        on_failure: str = "raise",
        min_step: float | None = None,
        max_step: float | None = None,
        at_min_step: str = "fail",
    ):
        wanted = "finite numbers above 0: one, or one for each component"
        self.rtol = checks.by_component("rtol", rtol, wanted, above=0.0)
        wanted = "finite numbers, 0 or above: one, or one for each component"
        self.atol = checks.by_component("atol", atol, wanted, least=0.0)
        self.tolerances = float(np.max(self.rtol)), float(np.max(self.atol))
        self.first_step = None if first_step is None else checks.positive("first_step", first_step)
        self.max_steps = checks.integer("max_steps", max_steps, 1)
        self.on_failure = checked_on_failure(on_failure)
        self.min_step = None if min_step is None else checks.positive("min_step", min_step)
        self.max_step = None if max_step is None else checks.positive("max_step", max_step)
        if min_step is not None and max_step is not None and min_step > max_step:
            raise ValueError(
                "`min_step` must not be above `max_step`. "
                f"Received: min_step={min_step}, max_step={max_step}"
            )
        if at_min_step not in ("fail", "accept"):
            raise ValueError(
                "`at_min_step` must be 'fail' or 'accept': what happens where a step of the size "
                f"`min_step` has too large an error. Received: at_min_step={at_min_step!r}"
            )
        self.at_min_step = at_min_step

    def get_config(self) -> dict[str, Any]:
        return {
            "rtol": self.rtol,
            "atol": self.atol,
            "first_step": self.first_step,
            "max_steps": self.max_steps,
            **self.failure_config(),
            **{name: x for name, x in self._bounds().items() if x is not None},
        }

    def _bounds(self) -> dict[str, Any]:
        """Return the bounds on the step, `None` where there are none."""
        accepts = None if self.at_min_step == "fail" else self.at_min_step
        return {"min_step": self.min_step, "max_step": self.max_step, "at_min_step": accepts}

    def bounded(self, h: tf.Tensor) -> tf.Tensor:
        """Return the size of a step between `min_step` and `max_step`; NaN and 0 stay."""
        if self.max_step is not None:
            h = tf.where(h > self.max_step, tf.cast(self.max_step, h.dtype), h)
        if self.min_step is not None:
            h = tf.where((h > 0.0) & (h < self.min_step), tf.cast(self.min_step, h.dtype), h)
        return h

    def is_smallest(self, h: tf.Tensor) -> tf.Tensor:
        """Return whether no shorter step than this, without sign, may be tried."""
        if self.min_step is None:
            return tf.zeros_like(h, tf.bool)
        return h <= self.min_step * (1.0 + 1e-3)  # A step may be stretched so much to land.

    def pace(self, solve: Solve, steps: Trajectory | None = None) -> ErrorPace:
        if solve.times.shape.rank == 2:
            if steps is None:
                return SamplePace(self, solve)
            return RepeatedSamplePace(self, solve, steps)
        return ErrorPace(self, solve) if steps is None else RepeatedPace(self, solve, steps)

    def initial_step(
        self,
        order: int,
        field: Field,
        t: tf.Tensor,
        y: State,
        span: tf.Tensor,
        slope: State | None = None,
    ) -> tuple[tf.Tensor, int]:
        spent = 0
        if slope is None:
            slope, spent = field(t, y)[0], 1
        if self.first_step is not None:
            h = self.bounded(tf.constant(self.first_step, span.dtype))
            return h if span.shape.rank == 0 else tf.fill(tf.shape(span), h), spent
        h = step_control.first(field, t, y, slope, span, self.rtol, self.atol, order)
        return self.bounded(h), spent + 1

    def chosen_times(self, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        del start
        return end[tf.newaxis]

    def times_gradient(
        self,
        times: tf.Tensor,
        record: Record,
        steps: tf.Tensor,
        t_bar: tf.Tensor,
        h_bar: tf.Tensor,
        lands: bool,
        stops: tf.Tensor | None = None,
    ) -> tf.Tensor:
        # Step sizes count as constants, but for steps that land on a requested time or a stop.
        n = by_step(tf.range(tf.shape(t_bar)[0]), t_bar)
        taken = (n < steps) & tf.not_equal(record.h, 0.0)
        last = tf.shape(times)[-1] - 1
        zero = tf.zeros_like(t_bar)
        if lands:
            before = reached_before(record)
            origin, target, landing = before - 1, before, record.reached > before
        elif stops is not None:
            before = reached_before(record)
            origin, target = latest(stops, before - 1), at(stops, before)
            landing = record.reached > target
        else:
            final = tf.reduce_max(tf.where(taken, n, -1), 0)
            origin, target, landing = (
                0 * record.reached,
                0 * record.reached + last,
                tf.equal(n, final),
            )
        landed = tf.where(taken & landing, h_bar, zero)
        size = tf.shape(times)[-1]
        started = totals_by_time(tf.where(taken, t_bar, zero) - landed, origin, size)
        return started + totals_by_time(landed, target, size)
