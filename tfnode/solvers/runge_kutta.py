"""`RungeKutta`: a method and a controller as a solver, ours and TFP's."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfnode.solvers.controller import Controller, Solve
from tfnode.solvers.failure import USER, Caller
from tfnode.solvers.loop import walk
from tfnode.solvers.solver import Field, Solver, State
from tfnode.solvers.tableau import ButcherTableau
from tfnode.solvers.trajectory import Trajectory


class Diagnostics(
    collections.namedtuple(
        "Diagnostics",
        [
            "num_ode_fn_evaluations",
            "num_jacobian_evaluations",
            "num_matrix_factorizations",
            "status",
        ],
    ),
    tfp.math.ode.Diagnostics,
):
    """TFP's view of `Stats`."""

    __slots__ = ()


def written(solver: Any) -> str:
    """Return a solver as a user writes it, with the arguments that are not `None`."""
    given = {name: x for name, x in solver.get_config().items() if x is not None}
    arguments = ", ".join(f"{name}={x!r}" for name, x in given.items())
    return f"{type(solver).__name__}({arguments})"


class RungeKutta(Solver, tfp.math.ode.Solver):
    """Base of the explicit Runge-Kutta solvers.

    A subclass sets `tableau`. `tfnode.odeint` calls `integrate`; `solve`, which is TFP's, goes
    to the same code, so a solver serves both.

    Args:
        controller: How long the steps are.

    Attributes:
        tableau: The method, a `ButcherTableau`.
        controller: As given.
        dense: The dense output of the tableau; `None` where the steps land on every time.
    """

    tableau: ButcherTableau
    tells_steps = True

    def __init__(self, controller: Controller):
        super().__init__(make_adjoint_solver_fn=None, validate_args=False, name=type(self).__name__)
        self.controller = controller
        self.adaptive, self.tolerances = controller.adaptive, controller.tolerances
        self.dense = self.tableau.dense if self.adaptive else None

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
        solve = Solve(self.tableau, field, times, final_only, first_step, drop, stops)
        pace = self.controller.pace(solve, steps)
        name, on_failure = type(self).__name__, self.controller.on_failure
        return walk(name, solve, pace, y0, quadratures, max_states, caller, on_failure)

    def initial_step(
        self, field: Field, t: tf.Tensor, y: State, span: tf.Tensor
    ) -> tuple[tf.Tensor, int]:
        return self.controller.initial_step(self.tableau.order, field, t, y, span)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, those of the controller."""
        return self.controller.get_config()

    def __repr__(self) -> str:
        return written(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RungeKutta":
        """Make a solver from what `get_config` returned."""
        return cls(**config)

    def _solve(
        self,
        ode_fn: Callable,
        initial_time: Any,
        initial_state: Any,
        solution_times: Any,
        jacobian_fn: Any = None,
        jacobian_sparsity: Any = None,
        batch_ndims: Any = None,
        previous_solver_internal_state: Any = None,
    ) -> Any:
        # Explicit methods have no use for Jacobians; nothing carries over between solves.
        del jacobian_fn, jacobian_sparsity, batch_ndims, previous_solver_internal_state
        y0 = tf.nest.flatten(initial_state)
        for y in y0:
            if not y.dtype.is_floating:
                raise TypeError(
                    "`initial_state` must have a floating point dtype. Solve for the real and the "
                    f"imaginary part of a complex state. Received: dtype={y.dtype.name}"
                )
        time_dtype = tf.float64 if any(y.dtype == tf.float64 for y in y0) else tf.float32
        initial_time = tf.cast(initial_time, time_dtype)
        if isinstance(solution_times, tfp.math.ode.ChosenBySolver):
            final_time = tf.cast(solution_times.final_time, time_dtype)
            solution_times = self.controller.chosen_times(initial_time, final_time)
        solution_times = tf.cast(solution_times, time_dtype)

        def field(t: tf.Tensor, y: State) -> tuple[State, State]:
            dy = ode_fn(t, tf.nest.pack_sequence_as(initial_state, y))
            return tf.nest.flatten(dy), []

        times = tf.concat([initial_time[tf.newaxis], solution_times], 0)
        trajectory = self.integrate(field, y0, times)
        zero = tf.zeros([], tf.int32)
        return tfp.math.ode.Results(
            times=solution_times,
            states=tf.nest.pack_sequence_as(initial_state, [y[1:] for y in trajectory.states]),
            diagnostics=Diagnostics(trajectory.stats.num_evaluations, zero, zero, zero),
            solver_internal_state=(),
        )

    def _initialize_solver_internal_state(
        self, ode_fn: Callable, initial_time: Any, initial_state: Any
    ) -> tuple:
        del ode_fn, initial_time, initial_state
        return ()
