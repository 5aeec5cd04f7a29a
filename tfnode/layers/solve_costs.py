"""What the solves of a layer cost in training."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

FORWARD = ("forward_solves", "forward", "forward_steps", "forward_rejected")
BACKWARD = (
    "backward_solves",
    "backward",
    "backward_steps",
    "backward_rejected",
    "reconstruction_error",
)


class SolveCosts:
    """Sums over solves, in variables that replicas add up when they are read.

    They are no weights of Keras's, so that they are neither counted nor saved with a model.

    Args:
        name: The name of the layer.

    Attributes:
        backward: Tuple of the variables that a gradient method counts up, see `Request`.
    """

    def __init__(self, name: str):
        with tf.init_scope():
            self._variables = {
                cost: tf.Variable(
                    0,
                    trainable=False,
                    dtype=tf.float64 if cost == "reconstruction_error" else tf.int64,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                    name=f"{name}_{cost}",
                )
                for cost in (*FORWARD, *BACKWARD)
            }
        self.backward = tuple(self._variables[cost] for cost in BACKWARD)

    def count_forward(self, stats: Any) -> None:
        """Count a forward solve of which these are the `Stats`."""
        for cost, count in zip(FORWARD, (1, *stats)):
            self._variables[cost].assign_add(tf.reduce_sum(tf.cast(count, tf.int64)))

    def numbers(self) -> dict[str, float]:
        """Return the sums by their names."""
        return {name: v.read_value().numpy().item() for name, v in self._variables.items()}

    def reset(self) -> None:
        """Count from zero."""
        for variable in self._variables.values():
            variable.assign(0)

    def add(self, numbers: Iterable[float]) -> None:
        """Add numbers in the order of `numbers()`."""
        for variable, number in zip(self._variables.values(), numbers):
            variable.assign_add(tf.cast(number, variable.dtype))


def no_cost() -> tf.Tensor:
    """Return the cost of no solve, as `GapSolve` does for one."""
    return tf.zeros([len(FORWARD) - 1], tf.int32)


class CountsCosts:
    """The part of a layer that tells what its solves cost."""

    _costs: SolveCosts
    name: str
    built: bool
    solver: Any

    def counters(self, training: bool | None) -> tuple:
        """Return the variables that each solve counts up on the way back."""
        return self._costs.backward if training is True else ()

    def costs(self) -> dict[str, float]:
        """Return what solves in training cost since `reset_costs`.

        Returns:
            A dict of numbers: `forward_solves`; in them the evaluations of the vector field
            `forward`, the accepted steps `forward_steps`, the rejected ones
            `forward_rejected` (both negative for solvers that do not tell); the same for
            `backward`; and the sum over the backward solves of the `reconstruction_error`,
            see `tfnode.callbacks.SolverStats`.
        """
        return self._costs.numbers() if self.built else dict.fromkeys((*FORWARD, *BACKWARD), 0)

    def reset_costs(self) -> None:
        """Count from zero."""
        if self.built:
            self._costs.reset()

    def add_costs(self, costs: Iterable[float]) -> None:
        """Add numbers that `costs` returned before, in their order."""
        self._costs.add(costs)


def counting_layers(model: keras.Model) -> list[CountsCosts]:
    """Return the layers of a model that tell what their solves cost."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, CountsCosts)]


class CountsPasses(CountsCosts):
    """The part of a layer for series that tells what they cost. Its solve is a whole pass."""

    def count_pass(self, costs: tf.Tensor) -> None:
        self._costs.count_forward(tf.unstack(tf.reduce_sum(costs, 1)))

    def costs(self) -> dict[str, float]:
        """Return what passes in training cost since `reset_costs`.

        Returns:
            As for an `ODEBlock`, with passes as the solves: sums over the points of a series.
        """
        numbers = super().costs()
        # Every solve counted itself on the way back, and a pass goes back once.
        return numbers | {"backward_solves": numbers["forward_solves"]}
