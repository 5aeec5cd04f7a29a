"""What the explicit Runge-Kutta solvers share: TFP's interface."""

import collections
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfnode.solvers.failure import USER
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


class RungeKutta(tfp.math.ode.Solver):
    """Base of the explicit Runge-Kutta solvers.

    A subclass sets `tableau` and defines `integrate`. That is what `tfnode.odeint` calls;
    `solve`, which is TFP's, goes to the same code, so a solver serves both.

    Attributes:
        tableau: The method, a `ButcherTableau`.
        adaptive: Whether the solver chooses its steps.
        tolerances: `(rtol, atol)` of a solver that controls its error, else `None`.
    """

    tableau: ButcherTableau
    adaptive = False
    tolerances: tuple[float, float] | None = None

    def __init__(self):
        super().__init__(make_adjoint_solver_fn=None, validate_args=False, name=type(self).__name__)

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
        """Integrates from `times[0]` through `times[-1]`, in either direction.

        Args:
            field: `field(t, y) -> (dy, dq)` over lists of tensors, `t` a scalar of the
                dtype of `times`.
            y0: List of tensors, float32 or float64.
            times: 1-D tensor, float32 or float64, strictly monotonic.
            quadratures: List of tensors, the initial values of `q` in `dq/dt = dq(t, y)`.
            final_only: Whether only the state at the last time is wanted.
            first_step: Scalar of the times' dtype, without sign: the size of the first step,
                instead of the solver's own choice. Solvers with a fixed step ignore it.
            max_states: Whether to record the steps, and with how many of the states; an
                even int, or `None`.
            caller: Who asked for the solve, for its error.

        Returns:
            A `Trajectory`.
        """
        raise NotImplementedError

    def times_gradient(self, times, record, steps, t_bar, h_bar, final_only):
        """Gradient in the times, from those in the steps of a recorded solve.

        Args:
            times: 1-D tensor, as in `integrate`.
            record: The `Record`.
            steps: int32 scalar, the number of steps.
            t_bar, h_bar: 1-D tensors like `record.t` and `record.h`, the gradients in them.
            final_only: As in `integrate`.

        Returns:
            A tensor like `times`.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes a solver from what `get_config` returned."""
        return cls(**config)

    def _solve(
        self,
        ode_fn,
        initial_time,
        initial_state,
        solution_times,
        jacobian_fn=None,
        jacobian_sparsity=None,
        batch_ndims=None,
        previous_solver_internal_state=None,
    ):
        # Explicit methods have no use for Jacobians; nothing carries over between solves.
        del jacobian_fn, jacobian_sparsity, batch_ndims, previous_solver_internal_state
        y0 = tf.nest.flatten(initial_state)
        time_dtype = tf.float64 if any(y.dtype == tf.float64 for y in y0) else tf.float32
        initial_time = tf.cast(initial_time, time_dtype)
        if isinstance(solution_times, tfp.math.ode.ChosenBySolver):
            solution_times = self._chosen_times(
                initial_time, tf.cast(solution_times.final_time, time_dtype)
            )
        solution_times = tf.cast(solution_times, time_dtype)

        def field(t, y):
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

    def _chosen_times(self, initial_time, final_time):
        """The times that the solver picks when TFP's caller leaves them to it."""
        del initial_time
        return final_time[tf.newaxis]

    def _initialize_solver_internal_state(self, ode_fn, initial_time, initial_state):
        del ode_fn, initial_time, initial_state
        return ()
