"""Explicit Runge-Kutta solvers that choose their own steps."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfnode.solvers.runge_kutta import RungeKutta, add, increment, stages
from tfnode.solvers.trajectory import Stats, Trajectory

SAFETY = 0.9
SMALLEST_FACTOR, LARGEST_FACTOR = 0.2, 10.0


class _Progress(NamedTuple):
    """Where a solve is; everything that its loops carry."""

    t: tf.Tensor
    y: list
    q: list
    derivative: tuple  # The field at `(t, y)`, as it returned it.
    h: tf.Tensor  # Size of the next step, without sign.
    ratio: tf.Tensor  # Error over tolerance of the last accepted step.
    accepted: tf.Tensor
    rejected: tf.Tensor
    failed: tf.Tensor


class AdaptiveStep(RungeKutta):
    """Explicit Runge-Kutta with an embedded error estimate and step size control.

    A step is accepted where the root mean square over the whole state of
    `error / (atol + rtol * max(|y|, |y_new|))` is at most 1, the norm of
    `scipy.integrate.solve_ivp`, so tolerances mean what they mean there. The next step
    follows from a PI controller; the first from the rule of Hairer, Norsett and Wanner. A
    step that would pass a requested time is cut to land on it, so the vector field is
    never evaluated outside the interval. Quadratures have no part in the error.

    A solve that fails (budget of steps spent, step below the resolution of time, state or
    derivative not finite) raises `tf.errors.InvalidArgumentError` with the time reached,
    the steps, the last step size, and what to try. XLA has no assertions: there the states
    are NaN instead.

    Args:
        rtol: Relative tolerance, positive.
        atol: Absolute tolerance, not negative.
        first_step: Size of the first step, without sign; `None` to have it chosen, which
            costs one evaluation.
        max_steps: Budget of steps for the whole solve, rejected ones included, an int of
            at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Reference: Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I* (1993),
    section II.4; Hairer, Wanner, *Solving Ordinary Differential Equations II* (1996),
    section IV.2, for the controller.
    """

    def __init__(self, rtol=1e-3, atol=1e-6, first_step=None, max_steps=4096):
        for name, value, valid in (
            ("rtol", rtol, lambda x: 0.0 < x < math.inf),
            ("atol", atol, lambda x: 0.0 <= x < math.inf),
            ("first_step", first_step, lambda x: 0.0 < x < math.inf),
        ):
            if name == "first_step" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not valid(value):
                raise ValueError(
                    f"`{name}` must be a positive, finite number. Received: {name}={value!r}"
                )
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(
                f"`max_steps` must be an int of at least 1. Received: max_steps={max_steps!r}"
            )
        super().__init__()
        self.rtol = rtol
        self.atol = atol
        self.first_step = first_step
        self.max_steps = max_steps

    def get_config(self):
        return {
            "rtol": self.rtol,
            "atol": self.atol,
            "first_step": self.first_step,
            "max_steps": self.max_steps,
        }

    def integrate(self, field, y0, times, quadratures=(), final_only=False) -> Trajectory:
        y0 = list(y0)
        zero = tf.zeros([], tf.int32)
        derivative = field(times[0], y0)
        evaluations = 1
        if self.first_step is None:
            h = self._first_step(field, times[0], y0, derivative[0], times[-1] - times[0])
            evaluations += 1
        else:
            h = tf.constant(self.first_step, times.dtype)
        one = tf.ones([], times.dtype)
        start = tf.identity(times[0])
        now = _Progress(
            start, y0, list(quadratures), derivative, h, one, zero, zero, tf.constant(False)
        )
        direction = tf.sign(times[-1] - times[0])

        if final_only:
            now = self._advance(field, now, times[-1], direction)
            states = self._finish(now, now.y)
        else:
            count = tf.shape(times)[0]
            arrays = [tf.TensorArray(x.dtype, count, element_shape=x.shape) for x in y0]
            arrays = [array.write(0, x) for array, x in zip(arrays, y0)]

            def body(i, now, arrays):
                # Unlike a gather, a slice has a dense gradient.
                end = tf.slice(times, [i], [1])[0]
                now = self._advance(field, now, end, direction)
                return i + 1, now, [array.write(i, x) for array, x in zip(arrays, now.y)]

            _, now, arrays = tf.while_loop(
                lambda i, *_: i < count,
                body,
                (1, now, arrays),
                maximum_iterations=None if times.shape[0] is None else times.shape[0] - 1,
                parallel_iterations=1,
            )
            states = self._finish(now, [array.stack() for array in arrays])
        tried = now.accepted + now.rejected
        each = self.tableau.stages - 1
        if not self.tableau.first_same_as_last:
            # The derivative at the new state is evaluated after accepted steps only.
            evaluations += now.accepted
        stats = Stats(evaluations + tried * each, now.accepted, now.rejected)
        return Trajectory(states, now.q, stats)

    def _advance(self, field, now, end, direction):
        """From where the solve is to the time `end`, on which it lands."""

        def unfinished(now):
            budget = now.accepted + now.rejected < self.max_steps
            return tf.not_equal(now.t, end) & budget & ~now.failed

        (now,) = tf.while_loop(
            unfinished,
            lambda now: (self._try_step(field, now, end, direction),),
            (now,),
            maximum_iterations=self.max_steps,
            parallel_iterations=1,
        )
        return now._replace(failed=now.failed | tf.not_equal(now.t, end))

    def _try_step(self, field, now, end, direction):
        remaining = tf.abs(end - now.t)
        lands = now.h >= remaining * (1.0 - 1e-3)
        t_new = tf.where(lands, end, now.t + direction * now.h)
        h = t_new - now.t
        ks, qs = stages(self.tableau, field, now.t, now.y, h, first=now.derivative)
        y_new = add(now.y, increment(self.tableau.b, h, ks))
        error = increment(self.tableau.b_error, h, ks)
        ratio = self._ratio(error, now.y, y_new, h.dtype)
        accept = ratio <= 1.0  # NaN is not.

        # PI control, with the constants of Hairer's DOPRI5 (beta = 0.04 = 0.2 / k).
        k = self.tableau.order  # The order of the embedded solution, plus one.
        tiny = tf.constant(1e-10, h.dtype)
        power = tf.maximum(ratio, tiny) ** (-0.85 / k) * tf.maximum(now.ratio, tiny) ** (0.2 / k)
        factor = tf.clip_by_value(SAFETY * power, SMALLEST_FACTOR, LARGEST_FACTOR)
        smallest = tf.constant(SMALLEST_FACTOR, h.dtype)
        factor = tf.where(tf.math.is_finite(ratio), factor, smallest)
        factor = tf.where(accept, factor, tf.minimum(factor, SAFETY))
        size = tf.abs(h) * factor
        # A step that was cut to land says nothing against the size it was cut from.
        size = tf.where(accept & lands, tf.maximum(size, now.h), size)
        size = tf.stop_gradient(size)
        resolution = 8.0 * _epsilon(h.dtype) * tf.maximum(tf.abs(now.t), tf.abs(t_new))
        underflow = ~accept & (size <= resolution)

        q_new = add(now.q, increment(self.tableau.b, h, qs)) if now.q else now.q
        if self.tableau.first_same_as_last:
            last = (ks[-1], qs[-1])
        else:
            last = tf.cond(accept, lambda: field(t_new, y_new), lambda: now.derivative)
        chosen = [
            tf.nest.map_structure(lambda a, b: _where(accept, a, b), new, old)
            for new, old in ((y_new, now.y), (q_new, now.q), (last, now.derivative))
        ]
        step = tf.cast(accept, tf.int32)
        return _Progress(
            _where(accept, t_new, now.t),
            *chosen,
            size,
            tf.where(accept, tf.stop_gradient(ratio), now.ratio),
            now.accepted + step,
            now.rejected + 1 - step,
            now.failed | underflow,
        )

    def _ratio(self, error, y, y_new, dtype):
        """The error in units of the tolerance: root mean square over all components."""
        scaled = [
            e / (self.atol + self.rtol * tf.maximum(tf.abs(a), tf.abs(b)))
            for e, a, b in zip(error, y, y_new)
        ]
        return tf.stop_gradient(_rms(scaled, dtype))

    def _first_step(self, field, t, y, derivative, span):
        """The rule of Hairer, Norsett and Wanner, section II.4; one evaluation."""
        scale = [self.atol + self.rtol * tf.abs(x) for x in y]
        d0 = _rms([x / s for x, s in zip(y, scale)], span.dtype)
        d1 = _rms([x / s for x, s in zip(derivative, scale)], span.dtype)
        tiny = tf.constant(1e-6, span.dtype)
        h0 = tf.where((d0 < 1e-5) | (d1 < 1e-5), tiny, 0.01 * d0 / d1)
        h0 = tf.stop_gradient(tf.minimum(h0, tf.abs(span)))
        h0_signed = h0 * tf.sign(span)
        probe = add(y, increment((1.0,), h0_signed, [derivative]))
        second, _ = field(t + h0_signed, probe)
        change = [(a - b) / s for a, b, s in zip(second, derivative, scale)]
        steepest = tf.maximum(d1, _rms(change, span.dtype) / h0)
        h1 = tf.where(
            steepest <= 1e-15,
            tf.maximum(tiny, h0 * 1e-3),
            (0.01 / steepest) ** (1.0 / self.tableau.order),
        )
        h = tf.minimum(tf.minimum(100.0 * h0, h1), tf.abs(span))
        # Where the field is not finite the first step shall fail, not this.
        return tf.stop_gradient(tf.where(tf.math.is_finite(h), h, tf.abs(span)))

    def _finish(self, now, states):
        """The states, if all went well; else an error, or NaN where there are no errors."""
        message = (
            f"{type(self).__name__} failed: the budget of steps is spent, the step is below the "
            "resolution of time, or the state or its derivative is not finite. Try looser "
            "tolerances, a larger `max_steps`, float64, or a solver for stiff problems, and "
            "check the dynamics for NaN."
        )
        check = tf.debugging.Assert(
            ~now.failed,
            [
                message,
                "Received: time reached =",
                now.t,
                "accepted steps =",
                now.accepted,
                "rejected steps =",
                now.rejected,
                "last step size =",
                now.h,
            ],
        )
        with tf.control_dependencies([] if check is None else [check]):
            return [tf.where(now.failed, tf.constant(math.nan, y.dtype), y) for y in states]

    def _chosen_times(self, initial_time, final_time):
        # Landing on the last time is all that a solver without dense output can choose.
        del initial_time
        return final_time[tf.newaxis]


def _where(condition, a, b):
    """`tf.where` that keeps the static shape of `b`, as loops demand."""
    result = tf.where(condition, a, b)
    result.set_shape(b.shape)
    return result


def _rms(tensors, dtype):
    """Root mean square over the elements of all tensors; 0 where there are none."""
    total = tf.add_n([tf.cast(tf.reduce_sum(tf.square(x)), dtype) for x in tensors])
    size = tf.add_n([tf.cast(tf.size(x), dtype) for x in tensors])
    return tf.sqrt(total / tf.maximum(size, 1.0))


def _epsilon(dtype):
    return 1.2e-7 if dtype == tf.float32 else 2.3e-16
