"""`Solver`: what `odeint` and the gradient methods ask of a solver."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfnode.solvers.failure import USER, Caller
from tfnode.solvers.trajectory import Trajectory

State = list[tf.Tensor]
# `field(t, y) -> (dy, dq)`: the derivative of the state `y` and the integrands of the quadratures.
# The time `t` is a scalar, or one for each sample; then `field(t, y, rows)` has the rows of the
# samples, see `Rows`. The integrands may depend on the state but the state never on them.
Field = Callable[..., tuple[State, State]]


class Solver(abc.ABC):
    """A solver that `odeint` drives.

    Attributes:
        adaptive: Whether it chooses its steps, and takes the steps of an earlier solve again.
        tolerances: `(rtol, atol)` of a solver that controls its error, else `None`.
        tells_steps: Whether it can record its steps, each of which is one of a `ButcherTableau`.
        differentiable: Whether backpropagation through its operations is right.
    """

    adaptive: bool = False
    tolerances: tuple[float, float] | None = None
    tells_steps: bool = False
    differentiable: bool = True

    @abc.abstractmethod
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
        """Integrate from `times[0]` through `times[-1]`, in either direction.

        Args:
            field: The `Field`, with `t` in the dtype of `times`.
            y0: List of tensors, float32 or float64.
            times: 1-D tensor, float32 or float64, strictly monotonic. Or `(batch, n)`, where
                `tells_steps`: every sample, on the first axis of each component, has its own
                times and steps, and a row may end in equal times, in which nothing happens.
                Then the field gets `t` of shape `(batch,)`, and the stats have that shape.
            quadratures: List of tensors, the initial values of `q` in `dq/dt = dq(t, y)`.
            final_only: Whether only the state at the last time is wanted.
            first_step: Scalar of the times' dtype, without sign: the size of the first step,
                instead of the solver's own choice. Fixed steps ignore it.
            max_states: Whether to record the steps, and with how many of the states; an
                even int, or `None`.
            caller: Who asked for the solve, for its error.
            steps: The `Trajectory` of an earlier solve of the same problem, with its record:
                its steps are taken again and all accepted; or `None`. Fixed steps only leave out
                the independent samples that failed in it.
            drop: Whether evaluations may leave out samples, a boolean or a tensor of one; it
                means nothing where `times` is 1-D.
            stops: As in `Solve`.

        Raises:
            tf.errors.InvalidArgumentError: If the solve fails. XLA has no assertions: there the
                states are NaN.
        """

    def initial_step(
        self, field: Field, t: tf.Tensor, y: State, span: tf.Tensor
    ) -> tuple[tf.Tensor, int]:
        """Return the size of the first step, without sign, and the evaluations it took to find.

        A solver that does not choose its steps returns 0.
        """
        del field, t, y
        return tf.zeros([], span.dtype), 0
