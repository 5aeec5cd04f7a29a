"""`Explicit` and `Embedded`: the constructors of the explicit methods."""

from collections.abc import Sequence

from tfnode.solvers.error_control import ErrorControl
from tfnode.solvers.fixed_steps import FixedSteps
from tfnode.solvers.runge_kutta import RungeKutta


class Explicit(RungeKutta):
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
        on_failure: What a solve that fails does: 'raise' an error, or return 'nan', in the states
            and in their gradient. Where the samples are independent (see `tfnode.odeint`), only
            those that fail are NaN. The default stands in no config.

    Raises:
        ValueError: If `num_steps` and `step_size` are both given, or one is out of range.
        tf.errors.InvalidArgumentError: From a solve, if `step_size` cuts an interval into more
            than 2^30 steps. XLA has no assertions: there the states are NaN.
    """

    def __init__(
        self,
        num_steps: int | None = None,
        step_size: float | None = None,
        on_failure: str = "raise",
    ):
        control = FixedSteps(num_steps, step_size, on_failure)
        super().__init__(control)
        self.num_steps = control.num_steps
        self.step_size = step_size
        self.on_failure = on_failure


class Embedded(RungeKutta):
    """Explicit Runge-Kutta with an embedded error estimate.

    A step is accepted where the root mean square over the whole state of
    `error / (atol + rtol * max(|y|, |y_new|))` is at most 1, the norm of
    `scipy.integrate.solve_ivp`, so tolerances mean what they mean there. The next step
    follows from a PI controller; the first from the rule of Hairer, Norsett and Wanner. The
    last step is cut to land on the last time, so the vector field is never evaluated
    outside the interval. States at times between are the method's dense output; a method
    without one lands on every time. Quadratures have no part in the error.

    With `num_steps` or `step_size` the steps are fixed instead: each interval is cut into
    equal ones.

    A solve that fails (budget of steps spent, step below the resolution of time, state or
    derivative not finite) raises `tf.errors.InvalidArgumentError` with the time reached,
    the steps, the last step size, and what to try. XLA has no assertions: there the states
    are NaN instead.

    Args:
        rtol: Relative tolerance, positive: a number, or one for each element on the last axis of
            the state.
        atol: Absolute tolerance, not negative, like `rtol`.
        first_step: Size of the first step, without sign; `None` to have it chosen, which
            costs one evaluation.
        max_steps: Budget of steps for the whole solve, rejected ones included, an int of
            at least 1.
        num_steps: Fixed steps in each interval of the times, an int of at least 1. It goes
            together with none of the arguments before; these are then at their defaults.
        step_size: The largest fixed step, in units of time, instead of `num_steps`.
        on_failure: What a solve that fails does: 'raise' an error, or return 'nan', in the states
            and in their gradient. Where the samples are independent (see `tfnode.odeint`), only
            those that fail are NaN. The default stands in no config.
        min_step: The smallest step that the controller chooses, without sign; `None` for no
            bound but the resolution of time. A step that is cut to land may be shorter.
        max_step: The largest step, without sign; `None` for no bound.
        at_min_step: What happens where the error is too large in a step of the size `min_step`
            or less: the solve may 'fail', or 'accept' the step.

    Raises:
        ValueError: If an argument is out of range, or fixed steps are to control an error.

    Example:
    ```python
    tfnode.solvers.Dopri5(rtol=1e-6, atol=1e-8)  # Chooses its steps.
    tfnode.solvers.Dopri5(num_steps=20)  # Takes 20 in each interval.
    ```

    Reference: Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I* (1993),
    section II.4; Hairer, Wanner, *Solving Ordinary Differential Equations II* (1996),
    section IV.2, for the controller.
    """

    def __init__(
        self,
        rtol: float | Sequence[float] = 1e-3,
        atol: float | Sequence[float] = 1e-6,
        first_step: float | None = None,
        max_steps: int = 4096,
        num_steps: int | None = None,
        step_size: float | None = None,
        on_failure: str = "raise",
        min_step: float | None = None,
        max_step: float | None = None,
        at_min_step: str = "fail",
    ):
        bounds = min_step, max_step, at_min_step
        control = ErrorControl(rtol, atol, first_step, max_steps, on_failure, *bounds)
        fixed = num_steps is not None or step_size is not None
        if fixed and control.get_config() != ErrorControl(on_failure=on_failure).get_config():
            raise ValueError(
                "Fixed steps control no error: give `num_steps` or `step_size`, or else `rtol`, "
                "`atol`, `first_step`, `max_steps` and bounds on the step. Received: "
                f"num_steps={num_steps}, step_size={step_size}, {control.get_config()}"
            )
        steps = FixedSteps(num_steps, step_size, on_failure)
        super().__init__(steps if fixed else control)
        self.rtol, self.atol = control.rtol, control.atol
        self.first_step, self.max_steps = control.first_step, control.max_steps
        self.num_steps = steps.num_steps if fixed else None
        self.step_size = steps.step_size
        self.on_failure = on_failure
        self.min_step, self.max_step, self.at_min_step = bounds
