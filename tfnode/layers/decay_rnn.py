"""`DecayRNN`: a recurrent network whose state decays between the points."""

import keras
import tensorflow as tf

from tfnode.layers.series import Series, filled, last_observed
from tfnode.layers.series_rnn import SeriesRNN
from tfnode.layers.solve_costs import no_cost


@keras.saving.register_keras_serializable("tfnode")
class DecayRNN(SeriesRNN):
    """A recurrent network whose state decays between the points of an irregular series.

    ```
    h(t_k-) = exp(-softplus(r) |t_k - t_{k-1}|) h(t_{k-1})
    h(t_k)  = cell([x_k, m_k, d_k], h(t_k-))
    ```

    from a state of zeros, with a rate `r` of each unit that is learned. `x_k` are the last
    observed values of the channels, and 0 before the first. `m_k` says which were observed at
    `t_k`, 1 or 0. `d_k` is the time since each was observed before `t_k`, at first the time since
    the series began. At a time without any observation the state is `h(t_k-)`.

    It is a baseline for `ODERNN`: the decay is the ODE `dh/dt = -softplus(r) h`.

    Args:
        units: Size of the state, an int.
        cell: `"gru"`, `"simple"`, or a cell of Keras, whose first state has `units` components
            and is its output. That state alone decays.
        return_sequences: Whether to return the states at all times or the last one.
        go_backwards: Whether the series is read from the last point to the first. The sequence
            of states is then in that order.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values, times, mask: As in `tfnode.layers.ODERNN`.

    Input and output shape:
        As in `tfnode.layers.ODERNN`.

    Raises:
        ValueError: If an argument is out of range.
        tf.errors.InvalidArgumentError: If times known only at run time do not increase. XLA has
            no assertions: there the result is NaN.

    Example:
    ```python
    h = tfnode.layers.DecayRNN(32)(values, times=times)
    ```

    Reference: Che, Purushotham, Cho, Sontag, Liu, *Recurrent Neural Networks for Multivariate
    Time Series with Missing Values* (2018), GRU-D. There the decay also has a bias and depends
    on the time of each channel, and the values decay to their mean.
    """

    def build_parts(self, batch: int | None, channels: int) -> None:
        super().build_parts(batch, channels)
        self.rate = self.add_weight(shape=(self.units,), initializer="zeros", name="rate")

    def num_features(self, channels: int) -> int:
        return 3 * channels

    def features(self, given: Series) -> tf.Tensor:
        observed = given.observed
        last = last_observed(observed)
        values = filled(given.values, observed, last)
        # Before the first observation it is the time since the beginning, of which padding that is
        # read first has the time.
        before = tf.concat([tf.zeros_like(last[:, :1]), last[:, :-1]], 1)
        places = tf.maximum(before, 0)
        flat = tf.reshape(places, [tf.shape(places)[0], -1])
        since = tf.reshape(tf.gather(given.times, flat, batch_dims=1), tf.shape(places))
        since = tf.abs(given.times[..., tf.newaxis] - since)
        parts = [values, tf.cast(observed, values.dtype), tf.cast(since, values.dtype)]
        return tf.ensure_shape(tf.concat(parts, 2), [*values.shape[:2], 3 * values.shape[2]])

    def move(
        self, h: tf.Tensor, start: tf.Tensor, gap: tf.Tensor, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del start, training
        rate = tf.nn.softplus(tf.cast(tf.convert_to_tensor(self.rate), h.dtype))
        return h * tf.exp(-tf.abs(gap)[:, tf.newaxis] * rate), no_cost()
