"""`FixedSteps`: steps of equal size between two requested times."""

import math
from typing import Any

import tensorflow as tf

from tfnode import checks
from tfnode.solvers import step_control
from tfnode.solvers.controller import Controller, Solve, checked_on_failure
from tfnode.solvers.failure import asserted
from tfnode.solvers.fixed_pace import FixedPace
from tfnode.solvers.record import Record, by_step, reached_before, totals_by_time
from tfnode.solvers.sample_fixed_pace import SampleFixedPace
from tfnode.solvers.stops import at
from tfnode.solvers.trajectory import Trajectory

# In one interval; their number is an int32.
MOST_STEPS = 2**30


class FixedSteps(Controller):
    """Equal steps, a number of them in each interval of the times or one size for all.

    Args:
        num_steps, step_size, on_failure: As in `Explicit`.

    Raises:
        ValueError: If both arguments are given, or one is out of range.
    """

    def __init__(
        self,
        num_steps: int | None = None,
        step_size: float | None = None,
        on_failure: str = "raise",
    ):
        if num_steps is not None and step_size is not None:
            raise ValueError(
                "Give `num_steps` or `step_size`, not both. "
                f"Received: num_steps={num_steps}, step_size={step_size}"
            )
        if step_size is None:
            wanted = "an int of at least 1: the number of steps in each interval of the times"
            num_steps = 1 if num_steps is None else num_steps
            num_steps = checks.integer("num_steps", num_steps, 1, wanted)
        else:
            wanted = "a positive, finite number, also where time runs backward"
            step_size = checks.positive("step_size", step_size, wanted)
        self.num_steps = num_steps
        self.step_size = step_size
        self.on_failure = checked_on_failure(on_failure)

    def get_config(self) -> dict[str, Any]:
        return {
            "num_steps": self.num_steps,
            "step_size": self.step_size,
            **self.failure_config(),
        }

    def pace(self, solve: Solve, steps: Trajectory | None = None) -> FixedPace:
        # The steps are the same in every solve.
        if solve.times.shape.rank == 2:
            return SampleFixedPace(self, solve, None if steps is None else steps.failed)
        return FixedPace(self, solve)

    def number(self, start: tf.Tensor, end: tf.Tensor) -> Any:
        """Return the number of steps in an interval: an int where it is known."""
        if self.step_size is None:
            return self.num_steps
        # A whole number of steps must not become one more by rounding.
        exact = tf.abs(end - start) / tf.cast(self.step_size, start.dtype)
        slack = 8.0 * exact * step_control.epsilon(start.dtype)
        fits = exact <= MOST_STEPS
        check = asserted(
            tf.reduce_all(fits),
            [
                f"`step_size` must not cut an interval of the times into more than {MOST_STEPS} "
                f"steps. Received: step_size={self.step_size}, steps =",
                exact,
            ],
        )
        with tf.control_dependencies(check):
            steps = tf.where(fits, tf.math.ceil(exact - slack), 1.0)
        return tf.maximum(tf.cast(steps, tf.int32), 1)

    def size(self, start: tf.Tensor, end: tf.Tensor, steps: Any) -> tf.Tensor:
        """Return the size of the steps in an interval, with sign."""
        h = (end - start) / tf.cast(steps, start.dtype)
        if self.step_size is None:
            return h
        # Where nothing can be raised, more than `MOST_STEPS` are NaN.
        return tf.where(tf.abs(h) < 1.01 * self.step_size, h, math.nan)

    def chosen_times(self, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        steps = self.number(start, end)
        fractions = tf.range(1, steps + 1, dtype=tf.int32) / steps
        return start + tf.cast(fractions, start.dtype) * (end - start)

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
        # Step j of the k in an interval: t = t0 + j * h, h = (t1 - t0) / k.
        del lands, stops
        n = by_step(tf.range(tf.shape(t_bar)[0]), t_bar)
        valid = (n < steps) & tf.not_equal(record.h, 0.0)
        interval = tf.where(valid, reached_before(record) - 1, 0)
        size = tf.shape(times)[-1]

        def total(values: tf.Tensor) -> tf.Tensor:
            values = tf.where(valid, values, tf.zeros_like(values))
            return totals_by_time(values, interval, size)

        k = total(tf.ones_like(t_bar))
        first = at(tf.math.cumsum(k, axis=-1, exclusive=True), interval)
        number = tf.math.cumsum(tf.cast(valid, t_bar.dtype), exclusive=True)
        slope = tf.math.divide_no_nan(total(h_bar + (number - first) * t_bar), k)
        return total(t_bar) - slope + tf.concat([0.0 * slope[..., :1], slope[..., :-1]], -1)
