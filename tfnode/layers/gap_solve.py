"""`GapSolve`: solves from one point of a series to the next, each sample over a gap of its own."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfnode import gradients, solvers
from tfnode.integrate import solve
from tfnode.solvers.fixed_steps import FixedSteps
from tfnode.solvers.foreign import drivable


class GapSolve:
    """A solver and a gradient for `dy/dtau = rates(tau, y)` from 0 to the gap of each sample.

    A fixed number of steps is the same for all samples, in a clock that goes from 0 to 1 while
    `tau` goes from 0 to the gap. With any other choice of steps each sample has its own, so that
    the result for a sample does not depend on the others.

    Args:
        solver: A name, config or instance: see `tfnode.solvers`.
        gradient: A name, config or instance, or `None`: see `tfnode.gradients`.
        options: Arguments of the solver beside its name; `None` stands for the default.

    Raises:
        ValueError: If the solver and the gradient do not go together, or if the solver is TFP's.
    """

    def __init__(self, solver: Any, gradient: Any, options: dict[str, Any]) -> None:
        # One step from point to point is a choice that the layers' docstrings tell.
        self.solver = solvers.get(solver, **options)
        self.gradient = gradients.get(gradient, self.solver)
        self.gradient.check(self.solver)
        if not drivable(self.solver).tells_steps:
            raise ValueError(
                "A series needs a Runge-Kutta solver of `tfnode.solvers`; TFP's take one step for "
                f"all samples. Received: solver={self.solver}"
            )
        control = self.solver.controller
        self.shared = isinstance(control, FixedSteps) and control.step_size is None

    def __call__(
        self, rates: Callable, y: tf.Tensor, gap: tf.Tensor, counters: tuple = ()
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the state after the gap, and the cost of the solve.

        Args:
            rates: `rates(tau, y) -> dy/dtau`, with `tau` of shape `(batch,)`.
            y: `(batch, units)`, the state before.
            gap: `(batch,)`, of either sign or 0, in the dtype of the state.
            counters: As in `tfnode.gradients.base.Request`.

        Returns:
            The state, and the `Stats` of the solve as int32 `(3,)`: sums over the samples where
            each has its own steps.
        """
        if self.shared:
            size = gap[:, tf.newaxis]

            def scaled(s: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
                return size * tf.cast(rates(s * gap, y), y.dtype)

            func, times = scaled, [0.0, 1.0]
        else:
            func, times = rates, tf.stack([tf.zeros_like(gap), gap], 1)
        func = tf.autograph.experimental.do_not_convert(func)
        y, _, stats = solve(
            func, y, times, self.solver, self.gradient, final_only=True, counters=counters
        )
        return y, tf.stack([tf.reduce_sum(x) for x in stats])

    def get_config(self) -> dict[str, Any]:
        """Return the solver and the gradient for the config of a layer."""
        return {
            "solver": solvers.serialize(self.solver),
            "gradient": gradients.serialize(self.gradient),
        }


def layer_of(name: str, value: Any) -> keras.layers.Layer:
    """Return an argument that must be a Keras layer, or raise `ValueError`."""
    if not isinstance(value, keras.layers.Layer):
        raise ValueError(
            f"`{name}` must be a Keras layer or model. Wrap a function in a layer of your own. "
            f"Received: {name}={value!r}"
        )
    return value
