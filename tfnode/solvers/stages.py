"""The arithmetic of explicit Runge-Kutta steps, over lists of tensors."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfnode.solvers.failure import compiled_by_xla
from tfnode.solvers.solver import Field, State
from tfnode.solvers.tableau import Dense, StageRows

# From here on, compiling the field once for each of them takes longer than a loop over them.
STAGES_IN_A_LOOP = 8


def expand(h: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return a scalar as it is, and one number for each sample with the rank of `x`.

    Args:
        h: Scalar or `(batch,)`.
        x: `(batch, ...)`.
    """
    if h.shape.rank == 0 or x.shape.rank == 1:
        return h
    return tf.reshape(h, [-1] + [1] * (x.shape.rank - 1))


def increment(weights: Sequence, h: tf.Tensor, derivatives: Sequence[State]) -> State:
    """Return `h * sum_i weights[i] * derivatives[i]` for each component, without zero weights.

    `h` is a scalar of the time's dtype, or one for each sample. The weights are numbers, or
    tensors like `h`.
    """
    pairs = zip(weights, derivatives)
    (first, start), *rest = [(w, k) for w, k in pairs if tf.is_tensor(w) or w != 0.0]
    if not rest:
        return [expand(tf.cast(h * first, x.dtype), x) * x for x in start]

    def times(w: Any, k: State) -> State:
        # A number must not go through `cast`, which would make it float32 first.
        return [(expand(tf.cast(w, x.dtype), x) if tf.is_tensor(w) else w) * x for x in k]

    total = times(first, start)
    for w, k in rest:
        # Neither `add_n` nor a chain of sums, which Grappler makes one of: AddN adds in the
        # order in which buffers happen to be free, and no two runs would be bit-identical.
        total = [z - x for z, x in zip(total, times(-w, k))]
    return times(h, total)


def add(left: State, right: State) -> State:
    """Return the componentwise sum of two lists of tensors, with the static shapes of the first."""
    total = [x + y for x, y in zip(left, right)]
    for x, z in zip(left, total):
        z.set_shape(x.shape)
    return total


def stages(
    rows: StageRows,
    field: Field,
    t: tf.Tensor,
    y: State,
    h: tf.Tensor,
    first: tuple[State, State] | None = None,
    end: tf.Tensor | None = None,
) -> tuple[list[State], list[State]]:
    """Evaluate the stages of one step.

    Args:
        rows: The method, `(c, row of a)` for each stage.
        field: The `Field`. Its quadratures need no stage values.
        t, h: Scalars of the time's dtype, or one for each sample; `h` is negative for a step
            back in time.
        y: List of tensors.
        first: The first stage where it is known already, as `field` returned it.
        end: The time `t + h` where it is known exactly: rounding must not take a stage
            beyond the last time, where the field need not be defined.

    Returns:
        `(ks, qs)`: for each stage the list of derivatives and that of integrands.
    """
    if first is None:
        first = field(t, y)
    end = t + h if end is None else end
    if len(rows) >= STAGES_IN_A_LOOP and compiled_by_xla():
        return _stages_in_a_loop(rows, field, t, y, h, first, end)
    ks, qs = [first[0]], [first[1]]
    for c, row in rows[1:]:
        dy, dq = field(stage_time(c, t, h, end), add(y, increment(row, h, ks)))
        ks.append(dy)
        qs.append(dq)
    return ks, qs


def stage_time(c: float, t: tf.Tensor, h: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return the time of a stage; `end` is that at the end of the step."""
    return end if c == 1.0 else t + c * h


def _stages_in_a_loop(
    rows: StageRows,
    field: Field,
    t: tf.Tensor,
    y: State,
    h: tf.Tensor,
    first: tuple[State, State],
    end: tf.Tensor,
) -> tuple[list[State], list[State]]:
    """Do the same with the field compiled once."""
    count, size = len(rows), len(y)
    arrays = [
        tf.TensorArray(x.dtype, count, element_shape=x.shape, clear_after_read=False)
        for x in [*first[0], *first[1]]
    ]
    arrays = [array.write(0, x) for array, x in zip(arrays, [*first[0], *first[1]])]
    times = tf.stack([stage_time(c, t, h, end) for c, _ in rows])
    weights = tf.constant([[*row, *[0.0] * (count - len(row))] for _, row in rows], h.dtype)

    def body(i: tf.Tensor, arrays: list) -> tuple[tf.Tensor, list]:
        # Not a matrix product, which GPUs may take in less precision.
        by_stage = h * tf.reshape(weights[i], [count] + [1] * h.shape.rank)
        scaled = [
            tf.reshape(
                by_stage, [count] + [-1] * h.shape.rank + [1] * (x.shape.rank - h.shape.rank)
            )
            for x in y
        ]
        dy, dq = field(
            times[i],
            [
                x + tf.reduce_sum(tf.cast(w, x.dtype) * array.stack(), 0)
                for x, w, array in zip(y, scaled, arrays)
            ],
        )
        return i + 1, [array.write(i, x) for array, x in zip(arrays, [*dy, *dq])]

    _, arrays = tf.while_loop(
        lambda i, _: i < count,
        body,
        (tf.ones([], tf.int32), arrays),
        maximum_iterations=count - 1,
        parallel_iterations=1,
    )
    stacked = [array.stack() for array in arrays]
    ks = [[x[i] for x in stacked[:size]] for i in range(count)]
    return ks, [[x[i] for x in stacked[size:]] for i in range(count)]


def dense_weights(dense: Dense, theta: tf.Tensor) -> list:
    """Return the weights of the derivatives in the dense output at `theta`, in [0, 1].

    Args:
        dense: That of the tableau.
        theta: Scalar, or one for each sample.
    """
    return [_polynomial((0.0, *row), theta) for row in dense]


def dense_slopes(dense: Dense, theta: tf.Tensor) -> list:
    """Return the derivatives of `dense_weights` in `theta`."""
    rows = [[(m + 1) * c for m, c in enumerate(row)] for row in dense]
    return [_polynomial(row, theta) for row in rows]


def _polynomial(coefficients: Sequence[float], x: tf.Tensor) -> Any:
    """Return the value at `x`, a tensor, by Horner's rule; 0.0 where all are zero."""
    if not any(coefficients):
        return 0.0
    *rest, total = coefficients
    for c in reversed(rest):
        total = total * x + c
    total = tf.convert_to_tensor(total, x.dtype)
    return total if total.shape.rank == x.shape.rank else total + tf.zeros_like(x)
