"""`GaussianSampling`: the latent variable of a variational autoencoder."""

from typing import Any

import keras
from keras import ops

from tfnode import checks


@keras.saving.register_keras_serializable("tfnode")
class GaussianSampling(keras.layers.Layer):
    """Draws from a normal distribution by reparameterisation, with their divergence as a loss.

    ```
    outputs = mean + exp(log_variance / 2) * noise,   noise ~ N(0, 1)
    ```

    The Kullback-Leibler divergence from the prior `N(0, 1)`, summed over dimensions, is added to
    the loss of the model as its mean over samples. With the negative log-likelihood as the
    model's loss, the sum is the negative evidence lower bound. Outside of training the output
    is the mean.

    Args:
        seed: The seed of the noise, an int, or `None` for a random one. The state of the
            generator is saved with the model.
        **kwargs: Those of `keras.layers.Layer`.

    Input and output shape:
        `(batch, 2 * n)`, the means and the logarithms of the variances, to `(batch, n)`, in the
        dtype that the layer computes in. The divergence is at least in float32. A mask is passed
        on, and the divergence is the mean over what it keeps.

    Example:
    ```python
    z = tfnode.layers.GaussianSampling()(keras.layers.Dense(2 * 4)(features))
    ```

    Reference: Kingma, Welling, *Auto-Encoding Variational Bayes* (2014), appendix B.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        # The divergence is not rounded to half precision.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.seed = None if seed is None else checks.integer("seed", seed, 0)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        mean, log_variance = ops.split(ops.cast(inputs, wide), 2, axis=-1)
        divergence = 0.5 * (ops.exp(log_variance) + mean**2 - 1.0 - log_variance)
        divergence = ops.sum(divergence, axis=-1)
        if mask is None:
            self.add_loss(ops.mean(divergence))
        else:
            kept = ops.cast(ops.broadcast_to(mask, ops.shape(divergence)), wide)
            self.add_loss(ops.sum(divergence * kept) / ops.maximum(ops.sum(kept), 1.0))
        outputs = mean
        if training is True:
            noise = keras.random.normal(ops.shape(mean), dtype=wide, seed=self.seed_generator)
            outputs = mean + ops.exp(0.5 * log_variance) * noise
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], input_shape[-1] // 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
