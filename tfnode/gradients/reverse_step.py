"""One step of a Runge-Kutta method, and the gradients back through it."""

import tensorflow as tf

from tfnode.gradients.tapes import gradients_or_zeros, inner, recorded
from tfnode.problem.field.sources import value_of
from tfnode.problem.field.vector_field import BoundField
from tfnode.solvers.stages import add, dense_slopes, expand, increment, stage_time


class ReverseStep:
    """One step, its stages on tapes."""

    def __init__(self, field: BoundField, time_gradient: bool, stage_rows, t, h, end, y, rows):
        self.sources, self.stage_rows, self.h = field.sources, stage_rows, h
        self.time_gradient = time_gradient
        self.ks, self.qs, self.zs, self.ts, self.tapes = [], [], [], [], []
        for c, row in stage_rows:
            z = add(y, increment(row, h, self.ks)) if any(row) else y
            # Each stage has tensors of its own, so that tapes tell them apart.
            z = [tf.identity(x) for x in z]
            time = tf.identity(stage_time(c, t, h, end))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([time, *z, *field.sources])
                k, q = field(time, z, rows)
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
        h, dtype, stage_rows = self.h, self.h.dtype, self.stage_rows
        t_bar, h_bar = tf.zeros_like(h), tf.zeros_like(h)
        with_time = self.time_gradient
        result, g = y_bar, [tf.zeros_like(value_of(s)) for s in self.sources]
        if moments is not None:
            result = add(result, moments[0])
        if with_time:
            for bar, slopes in ((y_bar, self.ks), (q_bar, self.qs)):
                if bar:
                    h_bar += along(bar, increment(b, tf.ones([], dtype), slopes), h)
        z_bars = [None] * len(stage_rows)
        for i in reversed(range(len(stage_rows))):
            weights, parts = [b[i] if i < len(b) else 0.0], [y_bar]
            for j in range(i + 1, len(stage_rows)):
                if z_bars[j] is not None:
                    weights.append(stage_rows[j][1][i])
                    parts.append(z_bars[j])
            if moments is not None:
                weights.extend(dense[i])
                parts.extend(moments[1:])
                if with_time and any(dense[i]):
                    arriving = increment(dense[i], tf.ones([], dtype), moments[1:])
                    h_bar += along(arriving, self.ks[i], h)
            if not any(weights):
                continue
            inputs = [*self.zs[i], *self.sources, *([self.ts[i]] if with_time else [])]
            k_bar = increment(weights, h, parts)
            # The quadratures of a shared clock; others have none.
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
                h_bar += stage_rows[i][0] * bars[-1]
                if any(stage_rows[i][1]):
                    slope = increment(stage_rows[i][1], tf.ones([], dtype), self.ks)
                    h_bar += along(z_bars[i], slope, h)
        return result, g, t_bar, h_bar


def along(left: list, right: list, h: tf.Tensor) -> tf.Tensor:
    """Return the inner product of two lists of tensors, or one for each sample, like `h`."""
    if h.shape.rank == 0:
        return inner(left, right, h.dtype)
    products = [a * b for a, b in zip(left, right)]
    sums = [tf.reduce_sum(x, list(range(1, x.shape.rank))) for x in products]
    return tf.add_n([tf.cast(x, h.dtype) for x in sums])


class Outputs:
    """The requested times within one step, and the gradients that arrive there."""

    def __init__(self, times, cotangents, begins, ends, t, h):
        self.times, self.cotangents = times, cotangents
        self.begins, self.ends, self.t, self.h = begins, ends, t, h

    def _loop(self, body, start):
        def next_output(i, *carry):
            theta, arriving = self._arriving(i)
            return i + 1, *body(i, theta, arriving, *carry)

        return tf.while_loop(
            lambda i, *_: tf.reduce_any(i < self.ends),
            next_output,
            (self.begins, *start),
            maximum_iterations=self.times.shape[-1],
            parallel_iterations=1,
        )[1:]

    def _arriving(self, i):
        """Return where in the step a time lies, from 0 to 1, and the gradients there."""
        theta = (tf.gather(self.times, i) - self.t) / self.h
        return theta, [tf.gather(c, i) for c in self.cotangents]

    def _zeros(self, lead):
        """Return zeros like the states of the step, with more axes in front."""
        return [tf.zeros([*lead, *tf.unstack(tf.shape(c))[1:]], c.dtype) for c in self.cotangents]

    def _add_rate(self, by_times, i, rate):
        here = tf.equal(tf.range(tf.shape(by_times)[0]), i)
        return by_times + tf.where(here, rate, 0.0)

    def moments(self, powers):
        """Return the sums of `theta^m` times the gradients, for `m` up to `powers`: lists."""

        def body(i, theta, arriving, total):
            del i
            powers_of = tf.range(powers + 1, dtype=theta.dtype)
            scales = theta ** tf.reshape(powers_of, [-1] + [1] * theta.shape.rank)
            batch = [-1] * theta.shape.rank

            def shaped(x):
                ones = [1] * (x.shape.rank - len(batch))
                return tf.reshape(tf.cast(scales, x.dtype), [powers + 1, *batch, *ones])

            return ([z + shaped(x) * x for z, x in zip(total, arriving)],)

        (total,) = self._loop(body, (self._zeros([powers + 1]),))
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
            rate = along(arriving, slope, self.h)
            by_times = self._add_rate(by_times, i, rate)
            return by_times, total + rate, weighted + theta * rate

        zero = tf.zeros_like(self.h)
        return self._loop(body, (by_times, zero, zero))


class SampleOutputs(Outputs):
    """The same for some of the samples, each with its own times.

    Args:
        times: `(batch, n)`.
        cotangents: List of tensors `(n, batch, ...)`.
        begins, ends, t, h: One number for each of the samples.
        samples: int32 tensor like them, their indices.
    """

    def __init__(self, times, cotangents, begins, ends, t, h, samples):
        super().__init__(times, cotangents, begins, ends, t, h)
        self.samples = samples

    def _index(self, i):
        return tf.minimum(i, tf.shape(self.times)[1] - 1)

    def _arriving(self, i):
        here, index = i < self.ends, self._index(i)
        elapsed = tf.gather_nd(self.times, tf.stack([self.samples, index], 1)) - self.t
        ones = tf.ones_like(self.h)
        theta = tf.where(here, elapsed, 0.0 * ones) / tf.where(here, self.h, ones)
        place = tf.stack([index, self.samples], 1)
        arriving = [tf.gather_nd(c, place) for c in self.cotangents]
        return theta, [tf.where(expand(here, x), x, tf.zeros_like(x)) for x in arriving]

    def _zeros(self, lead):
        return [
            tf.zeros([*lead, tf.size(self.samples), *tf.unstack(tf.shape(c))[2:]], c.dtype)
            for c in self.cotangents
        ]

    def _add_rate(self, by_times, i, rate):
        place = tf.stack([self.samples, self._index(i)], 1)
        return tf.tensor_scatter_nd_add(by_times, place, rate)
