"""The accepted steps of a solve, kept within a bound, for the discrete gradient."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.solvers.failure import compiled_by_xla


class Record(NamedTuple):
    """What is known of a solve of `N` steps once it is over.

    Attributes:
        t: 1-D tensor, the times at which the steps begin.
        h: 1-D tensor, the sizes of the steps, with sign.
        reached: 1-D int32 tensor: how many of the requested times lie at or before the end
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

    def start(self, y0: list[tf.Tensor], time_dtype: tf.DType) -> Record:
        """Return an empty record."""

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
        return Record(
            t=array(time_dtype, self.total),
            h=array(time_dtype, self.total),
            reached=array(tf.int32, self.total),
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
