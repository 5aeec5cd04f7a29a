"""The accepted steps of a solve, kept within a bound, for the discrete gradient."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.solvers.failure import compiled_by_xla


class Record(NamedTuple):
    """What is known of a solve of `N` steps once it is over.

    Attributes:
        t: `(N,)`, the times at which the steps begin; with clocks of the samples `(N, batch)`.
        h: Like `t`, the sizes of the steps, with sign; 0 for a sample that takes no step.
        reached: int32 tensor like `t`: how many of the requested times lie at or before the end
            of each step.
        states: List of tensors: some of the states from which steps began, in slots.
        owners: 1-D int32 tensor: the step whose state is in slot `1 + i`, or -1.
        stride: int32 scalar: the state of every `stride`-th step is kept.
        window: Slots that the states of `stride` steps need: an int, or a tensor.
    """

    t: Any
    h: Any
    reached: Any
    states: list
    owners: tf.Tensor
    stride: tf.Tensor
    window: Any


class Recorder:
    """Writes a `Record` during a solve, with at most `max_states` states in it.

    States are kept for every step until the slots are full, then for every second, every
    fourth: the freed slots are filled again. Slot 0 takes what is not kept.

    Args:
        max_states: How many states to keep, an even int.
        total: The most steps there can be: an int, or `None` where nobody knows.

    Raises:
        ValueError: If `total` is not known under XLA.
    """

    def __init__(self, max_states: int, total: int | None):
        self.fixed = compiled_by_xla()  # Arrays have fixed sizes there.
        if self.fixed and total is None:
            raise ValueError(
                "Under XLA the gradient 'checkpoint' needs a number of steps that is known when "
                "the function is compiled. Give the solver `num_steps` instead of `step_size`, "
                "or the times as a list."
            )
        self.total = total
        self.slots = max_states if total is None else min(max_states, total + total % 2)

    def start(self, y0: list[tf.Tensor], t: tf.Tensor) -> Record:
        """Return an empty record of a solve that begins at `t`, a scalar or `(batch,)`."""

        def array(dtype: tf.DType, size: Any, shape: Any = ()) -> tf.TensorArray:
            size = size if self.fixed else 0
            return tf.TensorArray(
                dtype,
                size,
                dynamic_size=not self.fixed,
                element_shape=shape,
                clear_after_read=False,
            )

        states = [array(y.dtype, self.slots + 1, y.shape) for y in y0]
        times, sizes, reached = (
            array(dtype, self.total, t.shape) for dtype in (t.dtype, t.dtype, tf.int32)
        )
        if t.shape.rank:
            # Where no sample takes a step, the arrays would have no shape.
            times, sizes, reached = (
                a.write(0, tf.zeros_like(t, a.dtype)) for a in (times, sizes, reached)
            )
        return Record(
            t=times,
            h=sizes,
            reached=reached,
            states=[a.write(0, y) for a, y in zip(states, y0)],
            owners=tf.fill([self.slots], -1),
            stride=tf.ones([], tf.int32),
            window=(),
        )

    def write(
        self,
        record: Record,
        n: tf.Tensor,
        t: tf.Tensor,
        h: tf.Tensor,
        reached: tf.Tensor,
        y: list[tf.Tensor],
    ) -> Record:
        """Return the record with step number `n`, from `(t, y)`; it may be written again."""
        full = tf.equal(n, record.stride * self.slots)
        stride = tf.where(full, 2 * record.stride, record.stride)
        own = tf.equal(record.owners, n)
        free = (record.owners < 0) | tf.not_equal(record.owners % stride, 0)
        slot = tf.argmax(2 * tf.cast(own, tf.int32) + tf.cast(free, tf.int32), output_type=tf.int32)
        keep = tf.equal(n % stride, 0)
        here = tf.equal(tf.range(self.slots), slot) & keep
        slot = tf.where(keep, slot + 1, 0)
        return Record(
            t=record.t.write(n, t),
            h=record.h.write(n, h),
            reached=record.reached.write(n, reached),
            states=[a.write(slot, x) for a, x in zip(record.states, y)],
            owners=tf.where(here, n, record.owners),
            stride=stride,
            window=(),
        )

    def finish(self, record: Record) -> Record:
        """Return the record as tensors."""
        window = record.stride
        if self.total is not None:
            window = 2 ** max(math.ceil(math.log2(self.total / self.slots)), 0)
            if window > 1 and not self.fixed:
                window = record.stride
        return record._replace(
            t=record.t.stack(),
            h=record.h.stack(),
            reached=record.reached.stack(),
            states=[a.stack() for a in record.states],
            window=window,
        )


def reached_before(record: Record) -> tf.Tensor:
    """Return like `record.reached`: how many requested times lie before each step."""
    return tf.concat([tf.ones_like(record.reached[:1]), record.reached[:-1]], 0)


def by_step(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return a number for each step with the rank of a tensor of the record."""
    return values if like.shape.rank == 1 else values[:, tf.newaxis]


def totals_by_time(values: tf.Tensor, index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return the sums over the steps by the requested times to which they belong.

    Args:
        values: `(N,)`, or `(N, batch)`.
        index: int32 tensor like `values`, where 0 stands for the first time.
        size: The number of the times.

    Returns:
        `(size,)`, or `(batch, size)`.
    """
    if values.shape.rank == 1:
        return tf.math.unsorted_segment_sum(values, index, size)
    batch = tf.shape(values)[1]
    flat = tf.reshape(index + size * tf.range(batch), [-1])
    total = tf.math.unsorted_segment_sum(tf.reshape(values, [-1]), flat, size * batch)
    return tf.reshape(total, [batch, size])
