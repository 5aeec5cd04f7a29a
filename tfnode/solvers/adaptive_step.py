"""Explicit Runge-Kutta solvers that choose their own steps."""

import math

import tensorflow as tf

from tfnode.solvers import step_control
from tfnode.solvers.failure import USER, checked, compiled_by_xla, nan_where
from tfnode.solvers.progress import Progress, Trial
from tfnode.solvers.record import Recorder
from tfnode.solvers.runge_kutta import RungeKutta
from tfnode.solvers.stages import add, dense_weights, increment, stages
from tfnode.solvers.trajectory import Stats, Trajectory


class AdaptiveStep(RungeKutta):
    """Explicit Runge-Kutta with an embedded error estimate and step size control.

    A step is accepted where the root mean square over the whole state of
    `error / (atol + rtol * max(|y|, |y_new|))` is at most 1, the norm of
    `scipy.integrate.solve_ivp`, so tolerances mean what they mean there. The next step
    follows from a PI controller; the first from the rule of Hairer, Norsett and Wanner. The
    last step is cut to land on the last time, so the vector field is never evaluated
    outside the interval. States at times between are the method's dense output; a method
    without one lands on every time. Quadratures have no part in the error.

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

    adaptive = True

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

    @property
    def tolerances(self):
        return self.rtol, self.atol

    def get_config(self):
        return {
            "rtol": self.rtol,
            "atol": self.atol,
            "first_step": self.first_step,
            "max_steps": self.max_steps,
        }

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
        steps=None,
    ) -> Trajectory:
        """Integrate as `RungeKutta.integrate` does.

        Args:
            steps: The `Steps` of an earlier solve of the same problem, which are taken again
                and all accepted; or `None`.
        """
        y0 = list(y0)
        span = times[-1] - times[0]
        if steps is not None:
            first_step = tf.abs(steps.record.h[0])
        now, evaluations = self.start(field, times[0], y0, span, quadratures, first_step)
        lands_everywhere = self.tableau.dense is None and not final_only
        count = tf.shape(times)[0]
        arrays = []
        if not final_only:
            arrays = [tf.TensorArray(x.dtype, count, element_shape=x.shape) for x in y0]
            arrays = [array.write(0, x) for array, x in zip(arrays, y0)]
        recorder = None if max_states is None else Recorder(max_states, self.max_steps)
        record = () if recorder is None else recorder.start(y0, times.dtype)

        def unfinished(now, reached, arrays, record):
            del reached, arrays, record
            if steps is not None:
                return now.accepted < steps.stats.num_steps
            return tf.not_equal(now.t, times[-1]) & now.may_go_on(self.max_steps)

        def body(now, reached, arrays, record):
            # Unlike a gather, a slice has a dense gradient.
            end = tf.slice(times, [reached], [1])[0] if lands_everywhere else times[-1]
            if steps is not None:
                now = now.with_step(tf.abs(tf.gather(steps.record.h, now.accepted)))
            trial = self.try_step(field, now, end, tf.sign(span))
            if steps is not None:
                trial = trial._replace(accept=tf.constant(True))
            if not final_only:
                reached, arrays = self._output(times, now, trial, reached, arrays)
            if recorder is not None:
                # A rejected step is written over by the next.
                record = recorder.write(record, now.accepted, now.t, trial.h, reached, now.y)
            return self.advance(now, trial), reached, arrays, record

        now, _, arrays, record = tf.while_loop(
            unfinished,
            body,
            (now, tf.ones([], tf.int32), arrays, record),
            maximum_iterations=self.max_steps,
            parallel_iterations=1,
        )
        failed = tf.not_equal(now.t, times[-1])
        states = now.y if final_only else [array.stack() for array in arrays]
        tried = now.accepted + now.rejected
        evaluations += tried * (self.tableau.stages - 1)
        if not self.tableau.first_same_as_last:
            # The derivative at the new state is evaluated after accepted steps only.
            evaluations += now.accepted
        states, quadratures = self._checked([states, now.q], now, failed, caller)
        return Trajectory(
            states,
            quadratures,
            Stats(evaluations, now.accepted, now.rejected)
            if steps is None
            else steps.stats._replace(num_evaluations=steps.stats.num_evaluations + evaluations),
            now.h,
            recorder and recorder.finish(record),
            failed,
        )

    def start(self, field, t, y, span, quadratures=(), first_step=None):
        """Where a solve begins, a `Progress`, and the evaluations spent on it."""
        derivative = field(t, y)
        h, spent = first_step, 0
        if h is None:
            h, spent = self.initial_step(field, t, y, derivative[0], span)
        clock = tf.stack([t, h, tf.ones([], t.dtype)])
        counts = tf.zeros([2], tf.int32)
        return Progress(y, list(quadratures), derivative, clock, counts), 1 + spent

    def try_step(self, field, now, end, direction):
        """One step from where the solve is, a `Trial`, not beyond the time `end`."""
        remaining = tf.abs(end - now.t)
        lands = now.h >= remaining * (1.0 - 1e-3)
        t = tf.where(lands, end, now.t + direction * now.h)
        h = t - now.t
        ks, qs = stages(self.tableau.rows, field, now.t, now.y, h, first=now.derivative, end=t)
        y = add(now.y, increment(self.tableau.b, h, ks))
        error = increment(self.tableau.b_error, h, ks)
        ratio = step_control.ratio(error, now.y, y, self.rtol, self.atol, h.dtype)
        accept = ratio <= 1.0  # NaN is not.
        q = add(now.q, increment(self.tableau.b, h, qs)) if now.q else now.q
        if self.tableau.first_same_as_last:
            last = (ks[-1], qs[-1])
        else:
            last = tf.cond(accept, lambda: field(t, y), lambda: now.derivative)
            ks = [*ks, last[0]]
        return Trial(t, h, y, q, ks, last, ratio, accept, lands)

    def advance(self, now, trial):
        """Where the solve is after a trial, with the size of the next step."""
        ratio, accept, dtype = trial.ratio, trial.accept, trial.h.dtype
        factor = step_control.factor(ratio, now.ratio, accept, self.tableau.order)
        size = tf.abs(trial.h) * factor
        # A step that was cut to land says nothing against the size it was cut from.
        size = tf.where(accept & trial.lands, tf.maximum(size, now.h), size)
        resolution = 8.0 * step_control.epsilon(dtype) * tf.maximum(tf.abs(now.t), tf.abs(trial.t))
        size = tf.where(~accept & (size <= resolution), tf.zeros_like(size), size)
        control = tf.stop_gradient(tf.stack([size, tf.where(accept, ratio, now.ratio)]))
        step = tf.cast(accept, tf.int32)

        def choose(new, old):
            return tf.nest.map_structure(lambda a, b: _where(accept, a, b), new, old)

        return Progress(
            y=choose(trial.y, now.y),
            q=choose(trial.q, now.q),
            derivative=choose(trial.last, now.derivative),
            clock=tf.concat([tf.where(accept, trial.t, now.t)[tf.newaxis], control], 0),
            counts=now.counts + tf.stack([step, 1 - step]),
        )

    def _output(self, times, now, trial, reached, arrays):
        """Writes the states at the requested times that an accepted step has reached."""
        count = tf.shape(times)[0]
        direction = tf.sign(times[-1] - times[0])

        def passed(i, arrays):
            del arrays
            time = tf.gather(times, tf.minimum(i, count - 1))
            return trial.accept & (i < count) & ((trial.t - time) * direction >= 0.0)

        def write(i, arrays):
            y = trial.y
            if self.tableau.dense is not None:
                theta = (tf.slice(times, [i], [1])[0] - now.t) / trial.h
                weights = dense_weights(self.tableau, theta)
                y = add(now.y, increment(weights, trial.h, trial.ks))
            return i + 1, [array.write(i, x) for array, x in zip(arrays, y)]

        return tf.while_loop(
            passed,
            write,
            (reached, arrays),
            maximum_iterations=times.shape[0],
            parallel_iterations=1,
        )

    def initial_step(self, field, t, y, derivative, span):
        """The size of the first step, without sign, and the evaluations it took to find.

        The rule of Hairer, Norsett and Wanner, section II.4, unless `first_step` is given.

        Args:
            field, t, y: As in `integrate`.
            derivative: List of tensors, the derivative of the state at `(t, y)`.
            span: Scalar, from `t` to the last time.

        Returns:
            `(h, evaluations)`, a scalar tensor and an int.
        """
        if self.first_step is not None:
            return tf.constant(self.first_step, span.dtype), 0
        order = self.tableau.order
        return step_control.first(field, t, y, derivative, span, self.rtol, self.atol, order), 1

    def _checked(self, results, now, failed, caller):
        """The results, if all went well; else an error, or NaN where there are no errors."""
        results = checked(
            results,
            failed,
            f"{type(self).__name__} failed{caller.during}: "
            "the budget of steps is spent, the step is below the "
            "resolution of time, or the state or its derivative is not finite. Try looser "
            "tolerances, a larger `max_steps`, float64, or a solver for stiff problems, and "
            "check the dynamics for NaN.",
            "time reached =",
            caller.time(now.t),
            "accepted steps =",
            now.accepted,
            "rejected steps =",
            now.rejected,
            "last step size =",
            now.h,
        )
        if not compiled_by_xla():
            return results
        # The gradients must be NaN, too, in all that the field depends on. Where no step was
        # accepted, the states do not depend on the field: let them.
        states, quadratures = results
        slopes = [tf.where(failed, x, tf.zeros_like(x)) for x in now.derivative[0]]
        return [x + nan_where(failed, k) for x, k in zip(states, slopes)], quadratures

    def times_gradient(self, times, record, steps, t_bar, h_bar, final_only):
        # Step sizes count as constants, but for steps that land on a requested time.
        n = tf.range(tf.shape(t_bar)[0])
        last = tf.shape(times)[0] - 1
        if self.tableau.dense is None and not final_only:
            before = tf.concat([[1], record.reached[:-1]], 0)
            origin, target, lands = before - 1, before, record.reached > before
        else:
            origin, target, lands = 0 * n, 0 * n + last, tf.equal(n, steps - 1)
        valid = n < steps
        zero = tf.zeros_like(t_bar)
        landed = tf.where(valid & lands, h_bar, zero)
        size = tf.shape(times)[0]
        started = tf.math.unsorted_segment_sum(
            tf.where(valid, t_bar, zero) - landed, tf.where(valid, origin, 0), size
        )
        return started + tf.math.unsorted_segment_sum(landed, tf.where(valid, target, 0), size)


def _where(condition, a, b):
    """`tf.where` that keeps the static shape of `b`, as loops demand."""
    result = tf.where(condition, a, b)
    result.set_shape(b.shape)
    return result
