"""The arithmetic of explicit Runge-Kutta steps, over lists of tensors."""

import tensorflow as tf

from tfnode.solvers.tableau import ButcherTableau


def increment(weights, h, derivatives):
    """`h * sum_i weights[i] * derivatives[i]` for each component, zero weights skipped.

    `h` is a scalar of the time's dtype. The weights are numbers, or such scalars.
    """
    pairs = zip(weights, derivatives)
    (first, start), *rest = [(w, k) for w, k in pairs if tf.is_tensor(w) or w != 0.0]
    if not rest:
        return [tf.cast(h * first, x.dtype) * x for x in start]

    def times(w, k):
        # A number must not go through `cast`, which would make it float32 first.
        return [(tf.cast(w, x.dtype) if tf.is_tensor(w) else w) * x for x in k]

    total = times(first, start)
    for w, k in rest:
        # Neither `add_n` nor a chain of sums, which Grappler makes one of: AddN adds in the
        # order in which buffers happen to be free, and no two runs would be bit-identical.
        total = [z - x for z, x in zip(total, times(-w, k))]
    return times(h, total)


def add(left, right):
    """Componentwise sum of two lists of tensors, with the static shapes of the first."""
    total = [x + y for x, y in zip(left, right)]
    for x, z in zip(left, total):
        z.set_shape(x.shape)
    return total


def stages(tableau: ButcherTableau, field, t, y, h, first=None):
    """Evaluates the stages of one step.

    Args:
        tableau: The method.
        field: `field(t, y) -> (dy, dq)` over lists of tensors: the derivative of the
            state and the integrands of the quadratures. The latter may depend on the
            state but the state never on them, so they need no stage values.
        t, h: Scalars of the time's dtype; `h` is negative for a step back in time.
        y: List of tensors.
        first: The first stage where it is known already, as `field` returned it.

    Returns:
        `(ks, qs)`: for each stage the list of derivatives and that of integrands.
    """
    ks, qs = [], []
    for i in range(tableau.stages):
        if i == 0:
            dy, dq = field(t, y) if first is None else first
        else:
            stage = add(y, increment(tableau.a[i], h, ks))
            dy, dq = field(t + tableau.c[i] * h, stage)
        ks.append(dy)
        qs.append(dq)
    return ks, qs


def dense_weights(tableau: ButcherTableau, theta):
    """The weights of the derivatives in the dense output at `theta`, a scalar in [0, 1]."""
    return [_polynomial((0.0, *row), theta) for row in tableau.dense]


def dense_slopes(tableau: ButcherTableau, theta):
    """The derivatives of `dense_weights` in `theta`."""
    rows = [[(m + 1) * c for m, c in enumerate(row)] for row in tableau.dense]
    return [_polynomial(row, theta) for row in rows]


def _polynomial(coefficients, x):
    """The value at `x`, a scalar tensor, by Horner's rule; 0.0 where all are zero."""
    if not any(coefficients):
        return 0.0
    *rest, total = coefficients
    for c in reversed(rest):
        total = total * x + c
    return tf.convert_to_tensor(total, x.dtype)
