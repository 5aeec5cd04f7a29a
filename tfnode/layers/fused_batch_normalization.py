"""`FusedBatchNormalization`: Keras's batch normalisation in one operation."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable("tfnode")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of images, by TensorFlow's fused operation.

    Mathematics, weights and arguments are Keras's, with two differences:

    - Keras writes it out as a dozen operations, in float32 whatever the layer's precision.
      The fused one reads and writes images in the layer's precision, and computes the
      statistics in float32.
    - Under a `tf.distribute` strategy the running averages are those over all replicas. Keras
      leaves each replica its own, and saves the first one's.

    Args:
        **kwargs: Those of `keras.layers.BatchNormalization`. Where they ask for something that
            the operation does not have (another axis, masks, no scale, renormalisation,
            synchronisation, float64), Keras's own way is taken.

    Input and output shape:
        `(batch, height, width, channels)`, the same; others go Keras's way too.

    Example:
    ```python
    x = tfnode.layers.FusedBatchNormalization(momentum=0.9)(images)
    ```

    Reference: Ioffe, Szegedy, *Batch Normalization* (2015).
    """

    def add_weight(self, *args: Any, trainable: bool = True, **kwargs: Any) -> Any:
        # In Keras all weights of this layer that are not trained are running averages.
        aggregation = "none" if trainable else "mean"
        return super().add_weight(*args, trainable=trainable, aggregation=aggregation, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None or not self._can_fuse(inputs):
            return super().call(inputs, training=training, mask=mask)
        inputs = ops.cast(inputs, self.compute_dtype)
        gamma, beta, mean, variance = (
            ops.convert_to_tensor(v)
            for v in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        fused = tf.compat.v1.nn.fused_batch_norm
        if not (training and self.trainable):
            return fused(inputs, gamma, beta, mean, variance, self.epsilon, is_training=False)[0]
        outputs, batch_mean, batch_variance = fused(inputs, gamma, beta, epsilon=self.epsilon)
        # The operation's variance is the unbiased one, Keras's the biased one.
        size = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
        batch_variance *= (size - 1.0) / size
        for variable, old, new in (
            (self.moving_mean, mean, batch_mean),
            (self.moving_variance, variance, batch_variance),
        ):
            new = ops.stop_gradient(new)
            variable.assign(old * self.momentum + new * (1.0 - self.momentum))
        return outputs

    def _can_fuse(self, inputs: Any) -> bool:
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not getattr(self, "renorm", False)  # Keras 3.12 has none.
            and not self.synchronized
            and self.variable_dtype == "float32"
            and self.compute_dtype != "float64"
        )
