"""`Linear`: straight lines between the observations."""

import tensorflow as tf

from tfnode.interpolation.path import Path


class Linear(Path):
    """A path of straight lines between the observations.

    ```
    u(t) = v_k + s m_k,   s = t - t_k,   m_k = (v_{k+1} - v_k) / (t_{k+1} - t_k)
    ```

    from `t_k` to `t_{k+1}`, the times at which the channel was observed. The derivative jumps
    there: give `knots` to the solver as times on which a step ends.

    The arguments and shapes are those of all paths.

    Example:
    ```python
    u = tfnode.interpolation.Linear([0.0, 1.0, 3.0], tf.constant([0.0, 2.0, 0.0]))
    ys = tfnode.odeint(lambda t, y: u(t) - y, tf.constant(0.0), [0.0, 3.0])
    ```
    """

    def _coefficients(self, h: tf.Tensor, slope: tf.Tensor) -> list[tf.Tensor]:
        return [slope]
