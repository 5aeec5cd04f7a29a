"""`Controller`: how long the steps are; and `Pace`, its part in one solve."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.solvers.failure import Caller
from tfnode.solvers.record import Record
from tfnode.solvers.solver import Field, State
from tfnode.solvers.tableau import ButcherTableau
from tfnode.solvers.trajectory import Stats, Trajectory


class Solve(NamedTuple):
    """A solve, as its controller sees it; see `Solver.integrate`.

    `times` of shape `(batch, n)` give every sample its own clock, in `SamplePace` and
    `SampleFixedPace`. `stops`, an int32 tensor like `times`, has for each time the position of the
    first one from there on that a step must not pass, but end on; `None` where no step must.
    """

    tableau: ButcherTableau
    field: Field
    times: tf.Tensor
    final_only: bool = False
    first_step: tf.Tensor | None = None
    drop: Any = False
    stops: tf.Tensor | None = None


class End(NamedTuple):
    """The end of a solve.

    Attributes:
        failed: Whether the solve failed, a boolean scalar; or one for each sample.
        reasons: `(reason and what to do, whether it is this one)` pairs.
        facts: Where it failed: names, each before its value, which is like `failed`.
        stats: The `Stats`.
        step: The size with which another solve would go on, if the controller chooses it.
        slopes: Tensors through which the gradients of a failed solve become NaN.
    """

    failed: tf.Tensor
    reasons: list
    facts: list
    stats: Stats
    step: tf.Tensor | None = None
    slopes: Sequence[tf.Tensor] = ()

    def after(self, first: Stats) -> "End":
        """Return this end of a solve that repeated the steps of another, with the cost of both."""
        both = first.num_evaluations + self.stats.num_evaluations
        return self._replace(stats=first._replace(num_evaluations=both))


class Pace(abc.ABC):
    """The steps of one solve, which consists of legs.

    A place is a NamedTuple of tensors, all that the loop carries from step to step: the state
    `y`, the quadratures `q`, the number of `accepted` steps, and what the controller needs.

    A trial is a step that was tried: the time at which it `begin`s, its size `h` with sign, and
    more that the controller needs.

    Attributes:
        legs: The number of legs: an int where it is known.
        lands: Whether each leg goes from one requested time to the next.
        straight: Whether each leg is exactly one step.
        most: The most steps in a leg, or `None` where nobody knows.
        total: The most steps in the solve, or `None` where nobody knows.
    """

    solve: Solve
    legs: Any
    lands: bool
    straight: bool
    most: int | None
    total: int | None

    @abc.abstractmethod
    def start(self, y: State, q: State) -> Any:
        """Return the place where the solve begins."""

    def arrays(self, y: State) -> list:
        """Return what takes the states at the times, with the first of them."""
        times = self.solve.times
        size = times.shape[-1] or tf.shape(times)[-1]
        arrays = [tf.TensorArray(x.dtype, size, element_shape=x.shape) for x in y]
        return [array.write(0, x) for array, x in zip(arrays, y)]

    def stacked(self, arrays: list) -> list:
        """Return the states at the times, on a new first axis."""
        return [array.stack() for array in arrays]

    @abc.abstractmethod
    def leg(self, index: Any, now: Any) -> Any:
        """Return what the steps of a leg have in common."""

    @abc.abstractmethod
    def unfinished(self, leg: Any, now: Any) -> tf.Tensor:
        """Return whether the leg has another step."""

    @abc.abstractmethod
    def try_step(self, leg: Any, now: Any) -> Any:
        """Return a trial."""

    @abc.abstractmethod
    def output(self, now: Any, trial: Any, arrays: list) -> tuple[tf.Tensor, list]:
        """Return how many requested times lie at or before the end of the trial, and the arrays.

        Where the legs do not land on the times, the states there are written into the arrays.
        """

    def taken(self, trial: Any) -> tf.Tensor:
        """Return the size of a step for the record: 0 for a sample that takes none."""
        return trial.h

    def number(self, now: Any) -> tf.Tensor:
        """Return how many steps are in the record; the next is written after them."""
        return now.accepted

    @abc.abstractmethod
    def advance(self, now: Any, trial: Any, reached: tf.Tensor) -> Any:
        """Return the place after a trial."""

    @abc.abstractmethod
    def finish(self, now: Any, caller: Caller) -> End:
        """Return how a solve ended at this place."""


class Controller(abc.ABC):
    """How long the steps of a solver are.

    Attributes:
        adaptive: Whether it chooses them from an estimate of the error.
        tolerances: `(rtol, atol)` where it does, the largest of all components, else `None`.
        on_failure: As in `Embedded`.
    """

    adaptive: bool = False
    tolerances: tuple[float, float] | None = None
    on_failure: str = "raise"

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""

    def failure_config(self) -> dict[str, str]:
        """Return `on_failure` for the config, where it is not the default."""
        return {} if self.on_failure == "raise" else {"on_failure": self.on_failure}

    @abc.abstractmethod
    def pace(self, solve: Solve, steps: Trajectory | None = None) -> Pace:
        """Return the steps of a solve; `steps` are those of an earlier one, to be taken again."""

    def initial_step(
        self, order: int, field: Field, t: tf.Tensor, y: State, span: tf.Tensor
    ) -> tuple[tf.Tensor, int]:
        """Return what `Solver.initial_step` returns, for a method of this order."""
        del order, field, t, y
        return tf.zeros([], span.dtype), 0

    @abc.abstractmethod
    def chosen_times(self, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        """Return the times at which TFP's caller gets the state who leaves them to the solver."""

    @abc.abstractmethod
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
        """Return the gradient in the times, from those in the steps of a recorded solve.

        Args:
            times: As in `Solver.integrate`.
            record: The `Record`.
            steps: int32 scalar, the number of steps.
            t_bar, h_bar: Tensors like `record.t` and `record.h`, the gradients in them.
            lands: Whether the steps land on every requested time.
            stops: As in `Solve`.
        """


def checked_on_failure(on_failure: Any) -> str:
    """Return `on_failure`, or raise `ValueError`."""
    if on_failure not in ("raise", "nan"):
        raise ValueError(
            "`on_failure` must be 'raise', for an error, or 'nan', for states that are NaN. "
            f"Received: on_failure={on_failure!r}"
        )
    return on_failure
