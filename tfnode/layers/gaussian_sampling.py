"""`GaussianSampling`: the latent variable of a variational autoencoder."""

from typing import Any

import keras
from keras import ops


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
        `(batch, 2 * n)`, the means and the logarithms of the variances, to `(batch, n)`.

    Example:
    ```python
    z = tfnode.layers.GaussianSampling()(keras.layers.Dense(2 * 4)(features))
    ```

    Reference: Kingma, Welling, *Auto-Encoding Variational Bayes* (2014), appendix B.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        # The divergence is not rounded to half precision.
        super().__init__(autocast=False, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        mean, log_variance = ops.split(ops.cast(inputs, "float32"), 2, axis=-1)
        divergence = 0.5 * (ops.exp(log_variance) + mean**2 - 1.0 - log_variance)
        self.add_loss(ops.mean(ops.sum(divergence, axis=-1)))
        if training is not True:
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], input_shape[-1] // 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
