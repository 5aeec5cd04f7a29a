"""The states from which the steps of a solve began, in bounded memory."""

import functools

import tensorflow as tf

from tfnode.gradients import custom
from tfnode.gradients.parts import Part
from tfnode.gradients.tapes import recorded
from tfnode.solvers.stages import add, increment, stages


class Windows:
    """The states of the steps: stored ones, and those between computed again.

    The states of one stride, which the loop over the steps carries, are filled in at its
    last step, the first to be asked for.
    """

    def __init__(self, solved: custom.Solved):
        self.solved = solved
        self.record, self.steps = solved.trajectory.record, solved.trajectory.number
        self.all_stored = isinstance(self.record.window, int) and self.record.window == 1

    def start(self) -> list:
        """Return the empty window with which the loop begins."""
        if self.all_stored:
            return []
        arrays = [
            tf.TensorArray(
                y.dtype, self.record.window, element_shape=y.shape, clear_after_read=False
            )
            for y in self.solved.y0
        ]
        return [a.write(0, y) for a, y in zip(arrays, self.solved.y0)]

    def state(self, n: tf.Tensor, window: list) -> tuple[list, list]:
        """Return the state from which step `n` began, and the window."""
        record, tableau = self.record, self.solved.request.solver.tableau
        first = n - n % record.stride
        owned = tf.cast(tf.equal(record.owners, first), tf.int32)
        slot = 1 + tf.argmax(owned, output_type=tf.int32)
        stored = [tf.gather(x, slot) for x in record.states]
        if self.all_stored:
            return stored, window
        refill = tf.equal(n, self.steps - 1) | tf.equal((n + 1) % record.stride, 0)

        def forward(m, y, window):
            part = Part(self.solved, m)
            t, h, end = part.clock()
            field = recorded(self.solved.field)
            if part.rows is not None:
                field = functools.partial(field, rows=part.rows)
            ks, _ = stages(tableau.solution_rows, field, t, part.take(y), h, end=end)
            y = part.update(y, add(part.take_own(y), increment(tableau.b, h, ks)))
            return m + 1, y, [a.write(m + 1 - first, x) for a, x in zip(window, y)]

        window = tf.cond(
            refill, lambda: [a.write(0, x) for a, x in zip(window, stored)], lambda: window
        )
        _, _, window = tf.while_loop(
            lambda m, *_: refill & (m < n),
            forward,
            (first, stored, window),
            parallel_iterations=1,
        )
        return [a.read(n - first) for a in window], window

    def recomputed(self) -> tf.Tensor:
        """Return how many steps are computed again beside those of the backward pass."""
        if self.all_stored:
            return tf.zeros([], tf.int32)
        if self.solved.times.shape.rank == 2:
            n = tf.range(tf.shape(self.record.h)[0])
            again = (n < self.steps - 1) & tf.not_equal((n + 1) % self.record.stride, 0)
            taken = again[:, tf.newaxis] & tf.not_equal(self.record.h, 0.0)
            return tf.math.count_nonzero(taken, dtype=tf.int32)
        return self.steps + -self.steps // self.record.stride
