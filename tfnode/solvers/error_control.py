"""`ErrorControl`: steps as long as the estimate of their error allows."""

from typing import Any

import tensorflow as tf

from tfnode import checks
from tfnode.solvers import step_control
from tfnode.solvers.controller import Controller, Solve
from tfnode.solvers.error_pace import ErrorPace, RepeatedPace
from tfnode.solvers.record import Record
from tfnode.solvers.solver import Field, State
from tfnode.solvers.trajectory import Steps


class ErrorControl(Controller):
    """A PI controller with one norm for the whole state.

    Args:
        rtol, atol, first_step, max_steps: As in `Embedded`.

    Raises:
        ValueError: If an argument is out of range.

    Reference: Hairer, Wanner, *Solving Ordinary Differential Equations II* (1996), section IV.2.
    """

    adaptive = True

    def __init__(
        self,
        rtol: float = 1e-3,
        atol: float = 1e-6,
        first_step: float | None = None,
        max_steps: int = 4096,
    ):
        self.rtol = checks.positive("rtol", rtol)
        self.atol = checks.real("atol", atol, "a finite number, 0 or above", least=0.0)
        self.tolerances = self.rtol, self.atol
        self.first_step = None if first_step is None else checks.positive("first_step", first_step)
        self.max_steps = checks.integer("max_steps", max_steps, 1)

    def get_config(self) -> dict[str, Any]:
        return {
            "rtol": self.rtol,
            "atol": self.atol,
            "first_step": self.first_step,
            "max_steps": self.max_steps,
        }

    def pace(self, solve: Solve, steps: Steps | None = None) -> ErrorPace:
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
            return tf.constant(self.first_step, span.dtype), spent
        h = step_control.first(field, t, y, slope, span, self.rtol, self.atol, order)
        return h, spent + 1

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
    ) -> tf.Tensor:
        # Step sizes count as constants, but for steps that land on a requested time.
        n = tf.range(tf.shape(t_bar)[0])
        last = tf.shape(times)[0] - 1
        if lands:
            before = tf.concat([[1], record.reached[:-1]], 0)
            origin, target, landing = before - 1, before, record.reached > before
        else:
            origin, target, landing = 0 * n, 0 * n + last, tf.equal(n, steps - 1)
        valid = n < steps
        zero = tf.zeros_like(t_bar)
        landed = tf.where(valid & landing, h_bar, zero)
        size = tf.shape(times)[0]
        started = tf.math.unsorted_segment_sum(
            tf.where(valid, t_bar, zero) - landed, tf.where(valid, origin, 0), size
        )
        return started + tf.math.unsorted_segment_sum(landed, tf.where(valid, target, 0), size)
