"""`TimeBatchNormalization`: batch normalisation inside the dynamics of an ODE."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfnode import checks
from tfnode.problem.field.scopes import at_start

# The bounds of the correction, from Ioffe (2017), section 4.
MAX_SCALE, MAX_SHIFT = 3.0, 5.0
# The weight of averages that have seen `1 / (1 - momentum)` batches.
KNOWN = 0.63


@keras.saving.register_keras_serializable("tfnode")
class TimeBatchNormalization(keras.layers.Layer):
    """Batch normalisation of a state that changes with time.

    Plain batch normalisation keeps one running average for inference. Inside an ODE the layer is
    called at every stage of every step, on states whose statistics differ from time to time.
    One average describes none of them: the accuracy in evaluation then falls tens of points
    below that in training. So this layer keeps running averages at `knots` times, evenly
    spread over `times`. A batch at time `t` updates the two knots around it, weighted by their
    distance. Inference interpolates between them:

    ```
    mean(t) = sum_k s_k(t) moving_mean[k] / sum_k s_k(t) weight[k]
    s_k(t)  = max(0, 1 - |t - t_k| / spacing)
    ```

    All start from zero, and `weight` is the average of ones. So the first batches do not count
    for less, as in Adam, and a knot that was never seen does not count at all.

    Averages also lag behind the weights, and every stage amplifies the lag of those before it.
    With `renorm`, as in batch renormalisation, training therefore normalises as inference does,
    by the averages that stood when the solve began. Their gradient is that of the batch:

    ```
    r = deviation(batch) / deviation(t)    d = (mean(batch) - mean(t)) / deviation(t)
    y -> gamma ((y - mean(batch)) / deviation(batch) r + d) + beta
    ```

    `r` and `d` are constants, `r` in [1/3, 3] and `d` in [-5, 5]. They are 1 and 0 until the
    averages have seen about `1 / (1 - momentum)` batches. Without `renorm` they stay so: that is
    batch normalisation as published, whose averages must be taken again before an evaluation,
    see `tfnode.callbacks.Recalibrate`.

    The default knots, `0, 1/3, 2/3, 1`, are the stage times of one step of the 3/8 rule over
    `times`: `ODEBlock(dynamics, solver="rk38")`. The two middle stages of `"rk4"` have one time,
    and share averages. With more steps, or an adaptive solver, give more knots. The backward
    solve of an adjoint has other states and leaves the averages alone.

    Under a `tf.distribute` strategy every replica normalises its share of the batch and keeps
    averages of its own. Their mean is saved. `Recalibrate` makes them the same.

    Args:
        momentum: Momentum of the running averages, in [0, 1).
        epsilon: Added to the variance.
        knots: Times at which averages are kept, an int of at least 2.
        times: The first and last time of the ODE; times outside count as the nearer one.
        renorm: Whether training normalises by the running averages, as inference does.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        t: Scalar; outside training also `(batch,)`, a time for each sample.
        y: `(batch, ..., channels)`.
        training: Whether to use the statistics of the batch. A layer with `trainable = False`
            uses its averages and leaves them as they are, like Keras's batch normalisation.

    Input and output shape:
        `(), (batch, ..., channels)` to `(batch, ..., channels)`.

    Example:
    ```python
    dy = tfnode.layers.TimeBatchNormalization()(t, y, training=True)
    ```

    Reference: Ioffe, Szegedy, *Batch Normalization* (2015); Ioffe, *Batch Renormalization*
    (2017), equation 2. The averages by time are this project's.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        knots: int = 4,
        times: Sequence[float] = (0.0, 1.0),
        renorm: bool = True,
        **kwargs: Any,
    ) -> None:
        # The time is not rounded to half precision along with the state.
        super().__init__(autocast=False, **kwargs)
        self.momentum = checks.real("momentum", momentum, "in [0, 1)", least=0.0)
        if self.momentum >= 1.0:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum}")
        self.epsilon = checks.real("epsilon", epsilon, "a finite number, 0 or above", least=0.0)
        self.knots = checks.integer("knots", knots, 2)
        if len(times) != 2 or times[0] == times[1]:
            raise ValueError(f"`times` must be two different numbers. Received: times={times}")
        self.times = tuple(float(t) for t in times)
        self.renorm = renorm

    def build(self, t_shape: tuple, y_shape: tuple) -> None:
        channels = y_shape[-1]
        self.gamma = self.add_weight(
            shape=(channels,), initializer="ones", name="gamma", autocast=False
        )
        self.beta = self.add_weight(
            shape=(channels,), initializer="zeros", name="beta", autocast=False
        )
        # Replicas cannot meet inside a loop, so they meet where the averages are read. The
        # averages are linear in the batches, so their mean is an average, too.
        self.moving_mean, self.moving_variance, self.weight = (
            keras.Variable(
                "zeros",
                shape=(self.knots, size),
                dtype=self.variable_dtype,
                trainable=False,
                autocast=False,
                aggregation="mean",
                synchronization="on_read",
                name=name,
            )
            for name, size in (
                ("moving_mean", channels),
                ("moving_variance", channels),
                ("weight", 1),
            )
        )
        self.built = True

    def call(self, t: Any, y: Any, training: bool | None = None) -> Any:
        share = self._shares(t, training)
        gamma, beta = (ops.convert_to_tensor(x) for x in (self.gamma, self.beta))
        y = ops.cast(y, self.compute_dtype)
        if training and self.trainable:
            return self._train(share, y, gamma, beta)
        mean, variance, _ = self._averages_at(share, self._averages)
        scale = gamma * ops.rsqrt(variance + self.epsilon)  # (channels,), or (batch, channels)
        if len(scale.shape) == 2:
            shape = (-1, *[1] * (len(y.shape) - 2), y.shape[-1])
            mean, scale = ops.reshape(mean, shape), ops.reshape(scale, shape)
        return y * ops.cast(scale, y.dtype) + ops.cast(beta - mean * scale, y.dtype)

    def _train(self, share: Any, y: Any, gamma: Any, beta: Any) -> tf.Tensor:
        """Return what a batch becomes in training, and update the averages."""
        if self.renorm:
            unit = ops.ones_like(gamma), ops.zeros_like(beta)
            outputs, mean, variance = self._normalize_batch(y, *unit)
            averages = self._averages_at(share, [at_start(x) for x in self._averages])
            scale, shift = self._correction(mean, variance, averages)
            outputs = outputs * ops.cast(gamma * scale, y.dtype)
            outputs += ops.cast(gamma * shift + beta, y.dtype)
        else:
            outputs, mean, variance = self._normalize_batch(y, gamma, beta)
        size = tf.cast(tf.size(y) / tf.size(mean), variance.dtype)
        unbiased = variance * size / tf.maximum(size - 1.0, 1.0)
        for variable, value in zip(self._averages, (mean, unbiased, 1.0)):
            variable.assign_add((1.0 - self.momentum) * share * (value - variable))
        return outputs

    def _shares(self, t: Any, training: bool | None) -> tf.Tensor:
        """Return the part that each knot has in the time, `(knots, 1)` or `(batch, knots, 1)`."""
        dtype = self.variable_dtype
        start, end = self.times
        place = (ops.cast(t, dtype) - start) / (end - start) * (self.knots - 1)
        place = ops.clip(place, 0, self.knots - 1)
        if len(place.shape) == 1:
            if training:
                raise ValueError(
                    "Batch normalisation in training takes the statistics of the batch at one "
                    "time. Solve with times that the samples share, or call the layer with "
                    f"`training=False`. Received: t of shape {place.shape}"
                )
            place = place[:, None]
        distance = ops.abs(place - ops.arange(self.knots, dtype=dtype))
        return ops.maximum(1.0 - distance, 0.0)[..., None]

    @property
    def _averages(self) -> tuple:
        return self.moving_mean, self.moving_variance, self.weight

    def _averages_at(self, share: tf.Tensor, averages: Sequence) -> tuple:
        """Return the mean and the variance at a time, and how much is known of them."""
        mean, variance, weight = (ops.sum(share * x, -2) for x in averages)
        mean = tf.math.divide_no_nan(mean, weight)
        variance = tf.math.divide_no_nan(variance, weight)
        return mean, ops.where(weight > 0.0, variance, 1.0), weight

    def _normalize_batch(
        self, y: Any, gamma: Any, beta: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the normalised batch, and its mean and biased variance as constants."""
        if y.dtype == tf.float64:
            # The fused operation has no float64.
            axes = list(range(len(y.shape) - 1))
            mean, variance = tf.nn.moments(y, axes)
            outputs = tf.nn.batch_normalization(y, mean, variance, beta, gamma, self.epsilon)
        else:
            rows = ops.reshape(y, (-1, 1, 1, y.shape[-1]))
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                rows, gamma, beta, epsilon=self.epsilon, is_training=True
            )
            outputs = ops.reshape(outputs, ops.shape(y))
            # The operation's variance is the unbiased one.
            size = tf.cast(tf.size(y) / tf.size(mean), variance.dtype)
            variance *= (size - 1.0) / size
        return outputs, ops.stop_gradient(mean), ops.stop_gradient(variance)

    def _correction(self, mean: Any, variance: Any, running: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scale and shift that make a normalised batch what inference makes of it."""
        running_mean, running_variance, weight = running
        deviation = ops.rsqrt(running_variance + self.epsilon)
        scale = ops.sqrt(variance + self.epsilon) * deviation
        shift = (mean - running_mean) * deviation
        known = weight > KNOWN
        scale = ops.where(known, ops.clip(scale, 1.0 / MAX_SCALE, MAX_SCALE), 1.0)
        return scale, ops.where(known, ops.clip(shift, -MAX_SHIFT, MAX_SHIFT), 0.0)

    def reset_averages(self) -> None:
        """Forget the running averages; the next batch in training mode starts them."""
        for variable in (self.moving_mean, self.moving_variance, self.weight):
            variable.assign(ops.zeros_like(variable))

    def compute_output_shape(self, t_shape: tuple, y_shape: tuple) -> tuple:
        return y_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "knots": self.knots,
            "times": self.times,
            "renorm": self.renorm,
        }
