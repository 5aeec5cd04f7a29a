"""`FixedStep`: explicit Runge-Kutta methods with steps of a fixed size."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfnode.solvers import step_control
from tfnode.solvers.failure import USER, checked, compiled_by_xla, finite
from tfnode.solvers.record import Recorder
from tfnode.solvers.runge_kutta import RungeKutta
from tfnode.solvers.stages import add, increment, stages
from tfnode.solvers.trajectory import Stats, Trajectory

# In one interval; their number is an int32.
MOST_STEPS = 2**30


class Attempt(NamedTuple):
    """The last step that began from a finite state: where a solve failed, if it did."""

    t: tf.Tensor
    h: tf.Tensor
    number: tf.Tensor


class FixedStep(RungeKutta):
    """Explicit Runge-Kutta with steps of a fixed size.

    Every interval `[t[i], t[i+1]]` of the requested times is cut into equal steps, so the
    solution lands on the times and the vector field is never evaluated outside them. There is no
    error to control; but a state that is not finite at the end raises
    `tf.errors.InvalidArgumentError` with the time reached, the steps, their size and what to try.
    XLA has no assertions: there the states are NaN instead.

    Args:
        num_steps: Steps in each interval, an int of at least 1. Default 1.
        step_size: The largest step, in units of time, instead of `num_steps`: an interval
            takes as many equal steps as keep them at or below it.

    Raises:
        ValueError: If both arguments are given, or one is out of range.
        tf.errors.InvalidArgumentError: From a solve, if `step_size` cuts an interval into more
            than `MOST_STEPS` steps. XLA has no assertions: there the states are NaN.
    """

    def __init__(self, num_steps: int | None = None, step_size: float | None = None):
        if num_steps is not None and step_size is not None:
            raise ValueError(
                "Give `num_steps` or `step_size`, not both. "
                f"Received: num_steps={num_steps}, step_size={step_size}"
            )
        if step_size is None:
            num_steps = 1 if num_steps is None else num_steps
            if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
                raise ValueError(
                    "`num_steps` must be an int of at least 1: the number of steps in each "
                    f"interval of the times. Received: num_steps={num_steps!r}"
                )
        elif (
            isinstance(step_size, bool)
            or not isinstance(step_size, (int, float))
            or not 0.0 < step_size < float("inf")
        ):
            raise ValueError(
                "`step_size` must be a positive, finite number, also where time runs "
                f"backward. Received: step_size={step_size!r}"
            )
        super().__init__()
        self.num_steps = num_steps
        self.step_size = step_size

    def get_config(self):
        return {"num_steps": self.num_steps, "step_size": self.step_size}

    def integrate(
        self,
        field,
        y0,
        times,
        quadratures=(),
        final_only=False,
        first_step=None,
        max_states=None,
        caller=USER,
    ) -> Trajectory:
        del first_step
        y0, quadratures = list(y0), list(quadratures)
        intervals = times.shape[0] - 1 if times.shape[0] else tf.shape(times)[0] - 1
        total = self._total_steps(times, intervals)
        zero = tf.zeros([], tf.int32)
        stats = Stats(total * self.tableau.stages, total, zero)
        recorder = None
        if max_states is not None:
            known = tf.get_static_value(total)
            recorder = Recorder(max_states, None if known is None else int(known))
        record = () if recorder is None else recorder.start(y0, times.dtype)
        last = ()
        if not compiled_by_xla():  # It has no errors, which this is for.
            h = (times[1] - times[0]) / tf.cast(self._steps(times[0], times[1]), times.dtype)
            last = Attempt(times[0], h, zero)

        def interval(i, t0, t1, n, y, q, record, last):
            steps = self._steps(t0, t1)
            h = (t1 - t0) / tf.cast(steps, t0.dtype)
            if self.step_size is not None:  # More than `MOST_STEPS`, where nothing can be raised.
                h = tf.where(tf.abs(h) < 1.01 * self.step_size, h, math.nan)

            def step(j, n, y, q, record, last):
                t = t0 + tf.cast(j, h.dtype) * h
                end = tf.where(tf.equal(j + 1, steps), t1, t0 + tf.cast(j + 1, h.dtype) * h)
                # Where the two agree for constant times, XLA's compiler drops the choice, and
                # then rounds the sum in another way.
                end = tf.clip_by_value(end, tf.minimum(t0, t1), tf.maximum(t0, t1))
                if recorder is not None:
                    reached = i + 1 + tf.cast(tf.equal(j + 1, steps), tf.int32)
                    record = recorder.write(record, n, t, h, reached, y)
                if last:
                    fine, now = finite(y), Attempt(tf.stop_gradient(t), tf.stop_gradient(h), n)
                    last = Attempt(*(tf.where(fine, a, b) for a, b in zip(now, last)))
                y, q = self._step(field, t, end, y, q, h)
                return j + 1, n + 1, y, q, record, last

            if isinstance(steps, int) and steps == 1:
                return step(0, n, y, q, record, last)[1:]
            # A loop: neither the time to trace and compile nor the memory shall grow with them.
            return tf.while_loop(
                lambda j, *_: j < steps,
                step,
                (zero, n, y, q, record, last),
                maximum_iterations=steps if isinstance(steps, int) else None,
                # More would let the states run ahead of the quadratures, whose pending steps
                # would then hold their activations: memory would grow with the steps.
                parallel_iterations=1,
            )[1:]

        if isinstance(intervals, int) and intervals == 1:
            t0, t1 = tf.unstack(times, 2)
            _, y, q, record, last = interval(0, t0, t1, zero, y0, quadratures, record, last)
            states = y if final_only else [tf.stack(pair) for pair in zip(y0, y)]
            record = recorder and recorder.finish(record)
            return self._checked(Trajectory(states, q, stats, record=record), y, last, caller)

        arrays = []
        if not final_only:
            arrays = [tf.TensorArray(x.dtype, intervals + 1, element_shape=x.shape) for x in y0]
            arrays = [array.write(0, x) for array, x in zip(arrays, y0)]

        # Under XLA slices have no second derivatives; gathers have first ones that are not dense.
        ends = tf.TensorArray(times.dtype, intervals + 1, element_shape=[], clear_after_read=False)
        ends = ends.unstack(times)

        def body(i, n, y, q, arrays, record, last):
            t0, t1 = ends.read(i), ends.read(i + 1)
            n, y, q, record, last = interval(i, t0, t1, n, y, q, record, last)
            arrays = [array.write(i + 1, x) for array, x in zip(arrays, y)]
            return i + 1, n, y, q, arrays, record, last

        _, _, y, q, arrays, record, last = tf.while_loop(
            lambda i, *_: i < intervals,
            body,
            (zero, zero, y0, quadratures, arrays, record, last),
            maximum_iterations=intervals,
            parallel_iterations=1,
        )
        states = y if final_only else [a.stack() for a in arrays]
        record = recorder and recorder.finish(record)
        return self._checked(Trajectory(states, q, stats, record=record), y, last, caller)

    def _checked(self, trajectory, y, last, caller):
        """The trajectory, if `y`, the last state, is finite.

        Then all are: a sum with NaN is NaN, and one with an infinite number that or NaN.
        """
        failed = ~finite(y)
        facts = []
        if last:
            facts = [
                "time reached =",
                caller.time(last.t),
                "steps =",
                last.number,
                "last step size =",
                last.h,
            ]
        states, quadratures = checked(
            [trajectory.states, trajectory.quadratures],
            failed,
            f"{type(self).__name__} failed{caller.during}: "
            "the state or its derivative is not finite. Try more "
            "steps, float64, or a solver that chooses its steps, and check the initial state and "
            "the dynamics for NaN.",
            *facts,
        )
        return trajectory._replace(states=states, quadratures=quadratures, failed=failed)

    def _steps(self, t0, t1):
        """Steps in the interval from `t0` to `t1`: an int where it is known."""
        if self.num_steps is not None:
            return self.num_steps
        # A whole number of steps must not become one more by rounding.
        exact = tf.abs(t1 - t0) / tf.cast(self.step_size, t0.dtype)
        slack = 8.0 * exact * step_control.epsilon(t0.dtype)
        fits = exact <= MOST_STEPS
        check = tf.debugging.Assert(
            tf.reduce_all(fits),
            [
                f"`step_size` must not cut an interval of the times into more than {MOST_STEPS} "
                f"steps. Received: step_size={self.step_size}, steps =",
                exact,
            ],
        )
        with tf.control_dependencies([] if check is None else [check]):
            steps = tf.where(fits, tf.math.ceil(exact - slack), 1.0)
        return tf.maximum(tf.cast(steps, tf.int32), 1)

    def _total_steps(self, times, intervals):
        if self.num_steps is not None:
            return tf.convert_to_tensor(intervals * self.num_steps, tf.int32)
        return tf.reduce_sum(self._steps(times[:-1], times[1:]))

    def times_gradient(self, times, record, steps, t_bar, h_bar, final_only):
        # Step j of the k in an interval: t = t0 + j * h, h = (t1 - t0) / k.
        del final_only
        n = tf.range(tf.shape(t_bar)[0])
        interval = tf.concat([[0], record.reached[:-1] - 1], 0)
        valid = n < steps
        interval = tf.where(valid, interval, 0)
        size = tf.shape(times)[0]

        def total(values):
            values = tf.where(valid, values, tf.zeros_like(values))
            return tf.math.unsorted_segment_sum(values, interval, size)

        k = total(tf.ones_like(t_bar))
        first = tf.math.cumsum(k, exclusive=True)
        j = tf.cast(n, t_bar.dtype) - tf.gather(first, interval)
        slope = tf.math.divide_no_nan(total(h_bar + j * t_bar), k)
        return total(t_bar) - slope + tf.concat([tf.zeros_like(slope[:1]), slope[:-1]], 0)

    def _step(self, field, t, end, y, q, h):
        ks, qs = stages(self.tableau.rows, field, t, y, h, end=end)
        y = add(y, increment(self.tableau.b, h, ks))
        return y, add(q, increment(self.tableau.b, h, qs)) if q else q

    def _chosen_times(self, initial_time, final_time):
        steps = self._steps(initial_time, final_time)
        fractions = tf.range(1, steps + 1, dtype=tf.int32) / steps
        return initial_time + tf.cast(fractions, initial_time.dtype) * (final_time - initial_time)
