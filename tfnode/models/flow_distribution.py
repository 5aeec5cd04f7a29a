"""`FlowDistribution`: a normalizing flow among the distributions of TensorFlow Probability."""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp


class FlowDistribution(tfp.distributions.Distribution):
    """The density of a `tfnode.models.NormalizingFlow`, with its weights.

    Batch shape `()`, event shape that of one sample. Samples are differentiable in the weights.

    Args:
        model: A `tfnode.models.NormalizingFlow`.
    """

    def __init__(self, model: keras.Model) -> None:
        parameters = {"model": model}
        self._model = model
        super().__init__(
            dtype=tf.as_dtype(model.compute_dtype),
            reparameterization_type=tfp.distributions.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=model.name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {}

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape(self._model.sample_shape)

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant(self._model.sample_shape, tf.int32)

    def _batch_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _batch_shape_tensor(self) -> tf.Tensor:
        return tf.constant([], tf.int32)

    def _sample_n(self, n: int, seed: Any = None) -> tf.Tensor:
        shape = tf.concat([[n], self._event_shape_tensor()], 0)
        z = tf.random.stateless_normal(shape, seed=tfp.random.sanitize_seed(seed), dtype=self.dtype)
        return self._model.from_normal(tf.ensure_shape(z, [None, *self._model.sample_shape]))

    def _log_prob(self, x: Any) -> tf.Tensor:
        # The model takes all axes before the event as one batch.
        shape = tf.shape(x)
        lead = shape[: tf.rank(x) - len(self._model.sample_shape)]
        flat = tf.reshape(x, [-1, *self._model.sample_shape])
        return tf.reshape(self._model.log_prob(flat), lead)
