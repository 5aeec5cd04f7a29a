"""The samples that take a step, and those whose gradient is lost."""

import math

import tensorflow as tf

from tfnode.gradients import custom
from tfnode.gradients.reverse_step import Outputs, SampleOutputs
from tfnode.solvers.failure import nan_where
from tfnode.solvers.rows import chosen, first_sound, put, take
from tfnode.solvers.stages import expand
from tfnode.solvers.stops import inside


def _step_end(solved: custom.Solved, n: tf.Tensor) -> tf.Tensor:
    """Return the time at the end of step `n`: that from which the next one begins."""
    record, steps = solved.trajectory.record, solved.trajectory.number
    following = tf.gather(record.t, tf.minimum(n + 1, steps - 1))
    return tf.where(n + 1 < steps, following, solved.times[..., -1])


class Part:
    """The samples that take step `n`: those alone, where the others may be left out."""

    def __init__(self, solved: custom.Solved, n: tf.Tensor):
        self.solved, self.n, self.rows = solved, n, None
        if solved.times.shape.rank == 2:
            trajectory = solved.trajectory
            active = tf.not_equal(tf.gather(trajectory.record.h, n), 0.0)
            # Not every layer takes a batch of nothing.
            donor = first_sound(trajectory.failed)
            idle = ~tf.reduce_any(active)
            active |= idle & tf.equal(tf.range(tf.size(active)), donor)
            self.rows = chosen(active, solved.drop, trajectory.failed)

    def clock(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the time at which the step begins, its size, and the time at its end.

        With stops the two times are those of the evaluations, see `inside`.
        """
        record = self.solved.trajectory.record
        clock = tf.gather(record.t, self.n), tf.gather(record.h, self.n)
        t, h, end = *clock, _step_end(self.solved, self.n)
        if self.rows is not None:
            end = tf.where(tf.equal(h, 0.0), t, end)
        if self.solved.stops is not None:
            t, end = inside(t, end)
        if self.rows is None:
            return t, h, end
        return take(t, self.rows), tf.gather(h, self.rows.own), take(end, self.rows)

    def outputs(self, cotangents: list, t: tf.Tensor, h: tf.Tensor) -> Outputs:
        """Return the requested times in the step."""
        reached, n = self.solved.trajectory.record.reached, self.n
        ends = tf.gather(reached, n)
        begins = tf.where(n > 0, tf.gather(reached, tf.maximum(n - 1, 0)), 1)
        if self.rows is None:
            return Outputs(self.solved.times, cotangents, begins, ends, t, h)
        begins, ends = (tf.gather(x, self.rows.own) for x in (begins, ends))
        return SampleOutputs(self.solved.times, cotangents, begins, ends, t, h, self.rows.own)

    def take(self, y: list) -> list:
        """Return the states in which the field is evaluated."""
        return [take(x, self.rows) for x in y]

    def take_own(self, y_bar: list) -> list:
        """Return the gradients of the samples that take the step."""
        return y_bar if self.rows is None else [tf.gather(x, self.rows.own) for x in y_bar]

    def whole(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Return numbers of these samples as numbers of all."""
        return put(x, self.rows, like)

    def update(self, whole: list, part: list) -> list:
        """Return tensors of the batch with new values for these samples."""
        if self.rows is None:
            return part
        place = self.rows.own[:, tf.newaxis]
        return [
            tf.ensure_shape(tf.tensor_scatter_nd_update(x, place, z), x.shape)
            for x, z in zip(whole, part)
        ]


def spoiled(lost: tf.Tensor, y_bar: list, g: list, times_bar: tf.Tensor) -> tuple:
    """Return the gradients, with NaN wherever a lost sample has a part; `lost` is `(batch,)`."""
    *y_bar, times_bar = (
        tf.where(expand(lost, x), tf.constant(math.nan, x.dtype), x) for x in (*y_bar, times_bar)
    )
    return y_bar, [nan_where(tf.reduce_any(lost), x) for x in g], times_bar


def without_failed(solved: custom.Solved, cotangents: list) -> tuple[list, tf.Tensor]:
    """Return the gradients that arrive, without those at samples that failed, and the lost samples.

    A sample is lost if it failed and the gradient that arrives there is not 0.
    """
    failed, axis = solved.trajectory.failed, 0 if solved.request.final_only else 1
    lost = tf.zeros_like(failed)
    for c in cotangents:
        others = [i for i in range(c.shape.rank) if i != axis]
        lost |= failed & tf.reduce_any(tf.not_equal(c, 0.0), others)
    shape = [1] * axis + [-1]
    cotangents = [
        tf.where(tf.reshape(failed, shape + [1] * (c.shape.rank - axis - 1)), tf.zeros_like(c), c)
        for c in cotangents
    ]
    return cotangents, lost


def without_their_steps(solved: custom.Solved) -> custom.Solved:
    """Return the solve, in which samples that failed take no steps: others as if alone."""
    record, failed = solved.trajectory.record, solved.trajectory.failed
    record = record._replace(h=tf.where(failed, tf.zeros_like(record.h), record.h))
    return solved._replace(trajectory=solved.trajectory._replace(record=record))
