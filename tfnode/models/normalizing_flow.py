"""`NormalizingFlow`: a density as a Keras model."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfnode.layers import FlowBlock

if TYPE_CHECKING:
    from tfnode.models.flow_distribution import FlowDistribution


@keras.saving.register_keras_serializable("tfnode")
class NormalizingFlow(keras.Model):
    """The density of `x` where the flow of `x` has the standard normal density.

    ```
    z, log_det = flow(x),   log p(x) = log N(z; 0, 1) + log_det
    ```

    Called on `x` it returns `log p(x)`, and so does `predict`. `fit(x)` maximises the
    likelihood: the loss is the mean of `-log p(x)`, in nats a sample, plus the path
    regularisers of the flow. `evaluate(x)` is without these. `compile` gets no loss. Targets
    are ignored, but Keras wants some beside sample weights: `fit(x, x, sample_weight=w)`.

    Args:
        input_shape: Of one sample.
        flow: A `tfnode.layers.FlowBlock`.
        **kwargs: Those of `keras.Model`.

    Input and output shape:
        `(batch, *input_shape)` to `(batch,)`, at least in float32.

    Raises:
        ValueError: If `input_shape` is not the shape of a sample or `flow` not a `FlowBlock`; in
            training, if `compile` was given a loss.

    Example:
    ```python
    flow = tfnode.layers.FlowBlock(tfnode.layers.DenseDynamics([32, 32]), "tsit5")
    model = tfnode.models.NormalizingFlow((2,), flow)
    model.compile("adam", jit_compile=True)
    model.fit(x, epochs=10)
    model.log_prob(x), model.sample(100, seed=0)
    ```

    Reference: Chen et al., *Neural Ordinary Differential Equations* (2018), section 4.
    """

    def __init__(self, input_shape: Sequence[int], flow: FlowBlock, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(flow, FlowBlock):
            raise ValueError(f"`flow` must be a `tfnode.layers.FlowBlock`. Received: flow={flow!r}")
        sizes = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
        if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(
                "`input_shape` must be that of one sample, such as (2,). "
                f"Received: input_shape={input_shape!r}"
            )
        self.sample_shape = sizes
        self.flow = flow
        self.input_spec = keras.layers.InputSpec(shape=(None, *self.sample_shape))
        self.build((None, *self.sample_shape))

    def build(self, inputs_shape: tuple) -> None:
        if not self.flow.built:
            self.flow.build(inputs_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, trace: str | None = None) -> Any:
        z, log_det = self.flow(inputs, training=training, trace=trace)
        z = ops.cast(z, log_det.dtype)
        axes = list(range(1, len(z.shape)))
        log_normal = -0.5 * ops.sum(ops.square(z) + math.log(2.0 * math.pi), axis=axes)
        return log_normal + log_det  # (batch,)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool | None = True,
    ) -> tf.Tensor:
        del x, y, training
        if self.loss is not None:
            raise ValueError(
                "A normalizing flow has a loss already, the negative log-likelihood: compile it "
                f"without one. Received: loss={self.loss!r}"
            )
        losses = -y_pred
        if sample_weight is not None:
            losses = losses * ops.cast(ops.reshape(sample_weight, ops.shape(losses)), losses.dtype)
        return ops.mean(losses) + sum(self.losses)

    def log_prob(self, x: Any, trace: str | None = None) -> tf.Tensor:
        """Return `log p(x)`, differentiable in `x` and in the weights.

        Args:
            x: `(batch, *input_shape)`.
            trace: Instead of the flow's, for example `"exact"` to evaluate what was trained
                with `"hutchinson"`.

        Returns:
            `(batch,)`.

        Raises:
            ValueError: If `x` has another shape.
        """
        return self._functions["log_prob"](self._batch("x", x), trace)

    def sample(self, n: Any, seed: int | None = None) -> tf.Tensor:
        """Draw samples of the density, differentiable in the weights.

        Args:
            n: How many, an int.
            seed: An int for the same samples every time.

        Returns:
            `(n, *input_shape)`.

        Raises:
            ValueError: If `n` is not an int of at least 0.
        """
        if not (tf.is_tensor(n) or (isinstance(n, (int, np.integer)) and n >= 0)):
            raise ValueError(f"`n` must be an int of at least 0. Received: n={n!r}")
        z = keras.random.normal(
            (n, *self.sample_shape),
            dtype=self.variable_dtype,
            seed=self.flow.seed_generator if seed is None else seed,
        )
        return self.from_normal(z)

    def from_normal(self, z: Any) -> tf.Tensor:
        """Return `x` for standard normal `z`, both `(batch, *input_shape)`."""
        return self._functions["from_normal"](self._batch("z", z))

    def _batch(self, name: str, x: Any) -> tf.Tensor:
        """Return a tensor of a batch's shape, which retracing would relax; else raise an error."""
        x, expected = tf.cast(x, self.compute_dtype), tf.TensorShape([None, *self.sample_shape])
        if not x.shape.is_compatible_with(expected):
            raise ValueError(
                f"`{name}` must be a batch of samples, of shape {expected}. "
                f"Received: {name} of shape {x.shape}"
            )
        return tf.ensure_shape(x, expected)

    def distribution(self) -> "FlowDistribution":
        """Return the density as a `tfp.distributions.Distribution`, of event shape `input_shape`.

        It shares the weights: it changes as the model is trained.
        """
        # TensorFlow Probability's distributions are slow to load.
        from tfnode.models.flow_distribution import FlowDistribution

        return FlowDistribution(self)

    @property
    def _functions(self) -> dict[str, Any]:
        """Return the traced functions, since solves are slow in eager execution."""
        if not hasattr(self, "_traced"):
            self._traced = {
                "log_prob": tf.function(
                    lambda x, trace: self(x, trace=trace), reduce_retracing=True
                ),
                "from_normal": tf.function(self.flow.inverse, reduce_retracing=True),
            }
        return self._traced

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "trainable": self.trainable,
            "input_shape": self.sample_shape,
            "flow": keras.saving.serialize_keras_object(self.flow),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NormalizingFlow":
        config = dict(config)
        config["flow"] = keras.saving.deserialize_keras_object(config["flow"])
        return cls(**config)
