"""One step of a Runge-Kutta method, and the gradients back through it."""

import tensorflow as tf

from tfnode.gradients.tapes import gradients_or_zeros, inner, recorded
from tfnode.solvers.stages import add, dense_slopes, increment, stage_time
from tfnode.vector_field import BoundField, value_of


def _stage(y, row, h, ks):
    """Return the state of a stage."""
    return add(y, increment(row, h, ks)) if any(row) else y


class ReverseStep:
    """One step, its stages on tapes."""

    def __init__(self, field: BoundField, time_gradient: bool, rows, t, h, end, y):
        self.sources, self.rows, self.h = field.sources, rows, h
        self.time_gradient = time_gradient
        self.ks, self.qs, self.zs, self.ts, self.tapes = [], [], [], [], []
        for c, row in rows:
            # Each stage has tensors of its own, so that tapes tell them apart.
            z = [tf.identity(x) for x in _stage(y, row, h, self.ks)]
            time = tf.identity(stage_time(c, t, h, end))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([time, *z, *field.sources])
                k, q = field(time, z)
            self.ks.append(k)
            self.qs.append(q)
            self.zs.append(z)
            self.ts.append(time)
            self.tapes.append(tape)

    def backward(self, y_bar, q_bar, b, dense, moments):
        """Go from the gradient in the end of the step to that in its beginning.

        Returns:
            `(y_bar, sources_bar, t_bar, h_bar)`.
        """
        h, dtype, rows = self.h, self.h.dtype, self.rows
        t_bar, h_bar = tf.zeros([], dtype), tf.zeros([], dtype)
        with_time = self.time_gradient
        result, g = y_bar, [tf.zeros_like(value_of(s)) for s in self.sources]
        if moments is not None:
            result = add(result, moments[0])
        if with_time:
            for bar, slopes in ((y_bar, self.ks), (q_bar, self.qs)):
                if bar:
                    h_bar += inner(bar, increment(b, tf.ones([], dtype), slopes), dtype)
        z_bars = [None] * len(rows)
        for i in reversed(range(len(rows))):
            weights, parts = [b[i] if i < len(b) else 0.0], [y_bar]
            for j in range(i + 1, len(rows)):
                if z_bars[j] is not None:
                    weights.append(rows[j][1][i])
                    parts.append(z_bars[j])
            if moments is not None:
                weights.extend(dense[i])
                parts.extend(moments[1:])
                if with_time and any(dense[i]):
                    along = increment(dense[i], tf.ones([], dtype), moments[1:])
                    h_bar += inner(along, self.ks[i], dtype)
            if not any(weights):
                continue
            inputs = [*self.zs[i], *self.sources, *([self.ts[i]] if with_time else [])]
            k_bar = increment(weights, h, parts)
            k_bar += [tf.cast(h * weights[0], x.dtype) * x for x in q_bar]
            # Recorded, since a custom gradient in the field may have a tape of its own.
            backward = recorded(gradients_or_zeros)
            bars = backward(self.tapes[i], [*self.ks[i], *self.qs[i]], inputs, k_bar)
            size = len(y_bar)
            z_bars[i] = bars[:size]
            result = add(result, z_bars[i])
            g = [x + y for x, y in zip(g, bars[size:])]
            if with_time:
                t_bar += bars[-1]
                h_bar += rows[i][0] * bars[-1]
                if any(rows[i][1]):
                    slope = increment(rows[i][1], tf.ones([], dtype), self.ks)
                    h_bar += inner(z_bars[i], slope, dtype)
        return result, g, t_bar, h_bar


class Outputs:
    """The requested times within one step, and the gradients that arrive there."""

    def __init__(self, times, cotangents, begins, ends, t, h):
        self.times, self.cotangents = times, cotangents
        self.begins, self.ends, self.t, self.h = begins, ends, t, h

    def _loop(self, body, start):
        def next_output(i, *carry):
            arriving = [tf.gather(c, i) for c in self.cotangents]
            theta = (tf.gather(self.times, i) - self.t) / self.h
            return i + 1, *body(i, theta, arriving, *carry)

        return tf.while_loop(
            lambda i, *_: i < self.ends,
            next_output,
            (self.begins, *start),
            maximum_iterations=self.times.shape[0],
            parallel_iterations=1,
        )[1:]

    def moments(self, powers):
        """Return the sums of `theta^m` times the gradients, for `m` up to `powers`: lists."""
        zeros = [
            tf.zeros([powers + 1, *tf.unstack(tf.shape(c))[1:]], c.dtype) for c in self.cotangents
        ]

        def body(i, theta, arriving, total):
            del i
            scales = theta ** tf.range(powers + 1, dtype=theta.dtype)
            return (
                [
                    z + tf.reshape(tf.cast(scales, x.dtype), [-1] + [1] * x.shape.rank) * x
                    for z, x in zip(total, arriving)
                ],
            )

        (total,) = self._loop(body, (zeros,))
        return [[z[m] for z in total] for m in range(powers + 1)]

    def rates(self, dense, ks, by_times):
        """Return how the loss changes with the requested times.

        Returns:
            `(by_times, total, weighted)`: `by_times` with the gradients in the times added,
            their sum, and their sum weighted by `theta`.
        """
        dtype = self.h.dtype

        def body(i, theta, arriving, by_times, total, weighted):
            slope = increment(dense_slopes(dense, theta), tf.ones([], dtype), ks)
            rate = inner(arriving, slope, dtype)
            here = tf.equal(tf.range(tf.shape(by_times)[0]), i)
            by_times += tf.where(here, rate, 0.0)
            return by_times, total + rate, weighted + theta * rate

        zero = tf.zeros([], dtype)
        return self._loop(body, (by_times, zero, zero))
