"""How well a backward solve retraces the states, and when its gradient is lost."""

import warnings
from typing import Any

import tensorflow as tf

from tfnode.gradients.base import BackwardStats
from tfnode.solvers.failure import asserted, compiled_by_xla

# With a fixed step no tolerance says how far a state may be off; this is a tenth of the state.
LARGEST_RELATIVE_DISTANCE = 0.1


class CoarseAdjointWarning(RuntimeWarning):
    """A warning that the backward solve by fixed steps misses the states by more than that."""


class ReconstructionCheck:
    """Compares states that were integrated backward with the stored ones.

    Args:
        limit: The largest difference in units of the tolerances, or `None` for no check.
        forward, backward: The solvers, whose tolerances count together.
    """

    def __init__(self, limit: float | None, forward: Any, backward: Any, origin: tf.Tensor):
        tolerances = [s.tolerances for s in (forward, backward)]
        self._fixed = None in tolerances
        self._limit, self._origin = limit, origin
        self._rtol, self._atol = (0.0, 0.0) if self._fixed else map(sum, zip(*tolerances))

    def start(self, times: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return what `reached` returns before there is anything to compare."""
        return tf.zeros([]), times[..., -1]

    def reached(self, found: list, stored: list, t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the difference in tolerances, or relative with fixed steps, and its time."""
        if self._fixed:
            return relative_distance(found, stored), t
        size = tf.add_n([tf.cast(tf.size(x), tf.float32) for x in stored])
        tolerance = self._atol * tf.sqrt(size) + self._rtol * norm(stored)
        difference = norm([x - y for x, y in zip(found, stored)])
        return tf.math.divide_no_nan(difference, tolerance), t  # An empty batch has no tolerance.

    def worse(self, one: tuple, other: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the larger of two differences, with its time."""
        keep = one[0] >= other[0]
        return tuple(tf.where(keep, a, b) for a, b in zip(one, other))

    def judged(self, stats: BackwardStats, worst: tuple) -> tuple[BackwardStats, tf.Tensor]:
        """Return the stats, and whether the gradient is lost; without XLA that is an error.

        Raises:
            tf.errors.InvalidArgumentError: If the difference is beyond the limit.
        """
        error, t = worst
        if self._limit is None:
            return stats, tf.constant(False)
        if self._fixed:
            self._warn(error)
            return stats, tf.constant(False)
        lost = ~(error <= self._limit)
        check = asserted(
            ~lost,
            [
                "The gradient 'adjoint' is lost: the backward solve misses the stored states by "
                f"more than {self._limit:g} tolerances, as it does where trajectories run "
                "together. Use gradient='checkpoint', which is exact, or tighter tolerances. "
                "Received: difference in tolerances =",
                error,
                "time =",
                self._origin + t,
                "relative difference =",
                stats.reconstruction_error,
            ],
        )
        with tf.control_dependencies(check):
            return tf.nest.map_structure(tf.identity, stats), tf.identity(lost)

    @staticmethod
    def _warn(error: tf.Tensor) -> None:
        if compiled_by_xla():  # It runs no Python.
            return

        def warn():
            warnings.warn(
                "The gradient 'adjoint' misses the states of the forward solve by more than a "
                "tenth of them, and is itself no better. Use more steps, or "
                "gradient='checkpoint', which is exact. `tfnode.callbacks.SolverStats` shows the "
                "`reconstruction_error`.",
                CoarseAdjointWarning,
                stacklevel=1,
            )

        def ask():
            tf.py_function(warn, [], [])
            return tf.constant(True)

        tf.cond(error > LARGEST_RELATIVE_DISTANCE, ask, lambda: tf.constant(False))


def relative_distance(found: list, expected: list) -> tf.Tensor:
    """Return the Euclidean distance of two lists of tensors, relative to the second."""
    return tf.math.divide_no_nan(norm([x - y for x, y in zip(found, expected)]), norm(expected))


def norm(tensors: list) -> tf.Tensor:
    """Return the Euclidean norm of a list of tensors, a float32 scalar."""
    return tf.sqrt(tf.add_n([tf.cast(tf.reduce_sum(x * x), tf.float32) for x in tensors]))
