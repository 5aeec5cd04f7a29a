"""`Hermite`: cubics that look no observation ahead."""

import tensorflow as tf

from tfnode.interpolation.path import Path


class Hermite(Path):
    """A path of cubics, whose derivative is continuous, that looks no observation ahead.

    ```
    u(t) = v_k + s m_{k-1} + (2 s^2 / h - s^3 / h^2) (m_k - m_{k-1}),
    s = t - t_k,   h = t_{k+1} - t_k,   m_k = (v_{k+1} - v_k) / h
    ```

    from `t_k` to `t_{k+1}`, the times at which the channel was observed. The derivative at an
    observation is the backward difference, `m_{k-1}`. The first piece is a straight line. A piece
    depends on the observations up to its end and on none that comes later: it is causal.

    The arguments and shapes are those of all paths.

    Example:
    ```python
    u = tfnode.interpolation.Hermite([0.0, 1.0, 3.0], tf.constant([0.0, 2.0, 0.0]))
    ys = tfnode.odeint(lambda t, y: u.derivative(t) - y, tf.constant(0.0), [0.0, 3.0])
    ```

    Reference: Morrill, Kidger, Yang, Lyons, *Neural Controlled Differential Equations for Online
    Prediction Tasks* (2021).
    """

    def _coefficients(self, h: tf.Tensor, slope: tf.Tensor) -> list[tf.Tensor]:
        before = tf.concat([slope[..., :1], slope[..., :-1]], -1)
        bend = (slope - before) / h
        return [before, 2.0 * bend, -bend / h]
