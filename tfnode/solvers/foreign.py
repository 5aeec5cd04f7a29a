"""Solvers of TensorFlow Probability behind the interface of ours."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfnode.solvers.failure import USER, Caller, checked, finite
from tfnode.solvers.solver import Field, Solver
from tfnode.solvers.trajectory import Stats, Trajectory


def drivable(solver: Any) -> Solver:
    """Return a solver of ours as it is, and one of TFP's as a `Foreign`."""
    return solver if isinstance(solver, Solver) else Foreign(solver)


class Foreign(Solver):
    """A `tfp.math.ode.Solver` that is not one of ours, behind our interface.

    Time runs forward from 0 inside, as TFP wants it, whatever the direction outside;
    quadratures are part of the state. A solve that TFP reports as failed raises
    `tf.errors.InvalidArgumentError`, or gives NaN under XLA.

    What TFP does differently stays: its `DormandPrince` evaluates the dynamics beyond the
    last time and has no bound on its steps unless given `max_num_steps`; neither solver
    tells its number of steps, so `Stats` has -1 for them.

    Args:
        solver: A `tfp.math.ode.Solver`.
    """

    def __init__(self, solver: Any):
        # Slow to load, and there already where it is needed.
        import tensorflow_probability as tfp

        self.solver = solver
        self.tolerances = solver._rtol, solver._atol
        # Its Newton iterations stop before their derivatives have converged.
        self.differentiable = not isinstance(solver, tfp.math.ode.BDF)
        self._tells_size = isinstance(solver, (tfp.math.ode.BDF, tfp.math.ode.DormandPrince))

    def integrate(
        self,
        field: Field,
        y0: Sequence[tf.Tensor],
        times: tf.Tensor,
        quadratures: Sequence[tf.Tensor] = (),
        final_only: bool = False,
        first_step: tf.Tensor | None = None,
        max_states: int | None = None,
        caller: Caller = USER,
        steps: Trajectory | None = None,
        drop: Any = False,
        stops: tf.Tensor | None = None,
    ) -> Trajectory:
        if stops is not None:
            raise ValueError(
                "`step_times` need a Runge-Kutta solver of `tfnode.solvers`. Those of TensorFlow "
                f"Probability cannot be told where to end a step. Received: solver={self.solver}"
            )
        del first_step, max_states, steps, drop
        title, size = f"{self.solver.name} failed{caller.during}", len(y0)
        # Otherwise BDF spends its budget of steps on a NaN, and takes an infinite state as solved.
        sound = finite(list(y0))
        y0 = checked(list(y0), ~sound, f"{title}: `y0` is not finite already.", "y0 =", *y0)
        dtype = tf.float64 if any(y.dtype == tf.float64 for y in y0) else tf.float32
        start = times[0]
        direction = tf.sign(times[-1] - start)
        elapsed = tf.cast((times - start) * direction, dtype)

        def ode_fn(tau: tf.Tensor, state: Sequence[tf.Tensor]) -> tuple:
            dy, dq = field(start + direction * tf.cast(tau, times.dtype), list(state[:size]))
            return tuple(tf.cast(direction, x.dtype) * x for x in (*dy, *dq))

        results = self.solver._solve(
            ode_fn=ode_fn,
            initial_time=tf.zeros([], dtype),
            initial_state=(*y0, *quadratures),
            solution_times=elapsed[-1:] if final_only else elapsed[1:],
        )
        # Times that are NaN, as they are under XLA where they do not fit, are no failure to BDF.
        failed = (results.diagnostics.status < 0) | tf.math.is_nan(elapsed[-1])
        # Nor is an infinite state.
        failed |= ~finite([x[-1] for x in results.states])
        # Times that `BDF` has not set out for are zeros.
        target = tf.cast(tf.reduce_max(results.times), times.dtype)
        states = checked(
            list(results.states),
            failed,
            f"{title}: the budget of steps is spent, because the tolerances are "
            "too tight for it or the state or its derivative is not finite. Try looser tolerances, "
            "a larger budget or float64, and check the dynamics for NaN.",
            "on the way to the time",
            caller.time(start + direction * target),
            "last step size =",
            results.solver_internal_state.step_size if self._tells_size else "unknown",
            "evaluations =",
            results.diagnostics.num_ode_fn_evaluations,
        )
        final = [x[-1] for x in states]
        if final_only:
            outputs = final[:size]
        else:
            outputs = [tf.concat([y[tf.newaxis], x], 0) for y, x in zip(y0, states)]
        unknown = tf.constant(-1, tf.int32)
        stats = Stats(results.diagnostics.num_ode_fn_evaluations, unknown, unknown)
        return Trajectory(outputs, final[size:], stats)
