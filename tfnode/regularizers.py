"""Regularisers of the path that an ODE takes: simple dynamics are cheap to solve."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfnode import checks

__all__ = ["JacobianFrobenius", "KineticEnergy", "PathRegularizer", "get", "serialize"]


class PathRegularizer:
    """Base of the regularisers: `weight` times the integral of `rate` along the path.

    `weight * integral |dt| rate(derivative, product)` is added to the loss of the model.

    Args:
        weight: A finite number of at least 0.

    Attributes:
        needs_product: Whether `rate` looks at `product`, which costs a backward pass through
            the dynamics at every evaluation.

    Raises:
        ValueError: If the weight is out of range.
    """

    needs_product = False

    def __init__(self, weight: float) -> None:
        self.weight = checks.real("weight", weight, "a finite number of at least 0", least=0.0)

    def rate(
        self, derivative: Sequence[tf.Tensor], product: Sequence[tf.Tensor] | None
    ) -> tf.Tensor:
        """Return the integrand, a scalar tensor, float32 or float64.

        Args:
            derivative: List of tensors `(batch, ...)`: the derivative `f(t, y)`.
            product: List of tensors like it, `eps^T df/dy`, for one draw of noise or several
                of covariance 1, one after the other; `None` where no regulariser
                `needs_product`.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"weight": self.weight}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PathRegularizer":
        """Make a regulariser from what `get_config` returned."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfnode")
class KineticEnergy(PathRegularizer):
    """A preference for slow motion, so that samples take short and straight ways.

    ```
    loss += weight * mean_batch( 1/d integral ||f(t, y(t))||^2 |dt| )
    ```

    with `d` the elements of the state of one sample. The code of the paper has a factor of 1/2
    besides, so its coefficient is twice this weight.

    Args:
        weight: A finite number of at least 0.

    Example:
    ```python
    tfnode.ODEBlock(dynamics, "dopri5", regularizers=[tfnode.regularizers.KineticEnergy(0.01)])
    ```

    Reference: Finlay, Jacobsen, Nurbekyan, Oberman, *How to train your neural ODE: the world
    of Jacobian and kinetic regularization* (2020), section 3.1.
    """

    def rate(
        self, derivative: Sequence[tf.Tensor], product: Sequence[tf.Tensor] | None
    ) -> tf.Tensor:
        del product
        return _mean_square(derivative)


@keras.saving.register_keras_serializable("tfnode")
class JacobianFrobenius(PathRegularizer):
    """A preference for dynamics that differ little from place to place.

    ```
    loss += weight * mean_batch( 1/d integral ||eps^T df/dy||^2 |dt| )
    ```

    This is Hutchinson's unbiased estimate of the squared Frobenius norm of the Jacobian, with
    `d` the elements of the state of one sample. The elements of `eps` are 1 or -1 with equal
    chances. They are drawn once for each solve, forward and backward. Where the samples of a
    batch do not depend on each other, the Jacobian is that of one sample. Every evaluation of
    the dynamics costs a vector-Jacobian product more, which must have a derivative itself.

    Args:
        weight: A finite number of at least 0.

    Example:
    ```python
    tfnode.ODEBlock(dynamics, regularizers=[tfnode.regularizers.JacobianFrobenius(0.01)])
    ```

    Reference: Finlay, Jacobsen, Nurbekyan, Oberman (2020), section 3.2; Hutchinson, *A
    stochastic estimator of the trace of the influence matrix* (1990), for the noise.
    """

    needs_product = True

    def rate(self, derivative: Sequence[tf.Tensor], product: Any) -> tf.Tensor:
        del derivative
        return _mean_square(product)


_CLASSES = {c.__name__.lower(): c for c in (KineticEnergy, JacobianFrobenius)}


def get(identifier: Any) -> tuple[PathRegularizer, ...]:
    """Return the regularisers that an identifier stands for.

    Args:
        identifier: A sequence of regularisers and of configs made by `serialize`; or a
            mapping of names, `"kineticenergy"` and `"jacobianfrobenius"`, to weights.

    Raises:
        ValueError: For anything else.
    """
    if isinstance(identifier, Mapping):
        unknown = [name for name in identifier if name not in _CLASSES]
        if unknown:
            raise ValueError(
                f"A regulariser is one of {sorted(_CLASSES)}. Received: {unknown[0]!r}"
            )
        return tuple(_CLASSES[name](weight) for name, weight in identifier.items())
    if isinstance(identifier, (list, tuple)):
        made = [
            keras.saving.deserialize_keras_object(x) if isinstance(x, dict) else x
            for x in identifier
        ]
        if all(isinstance(x, PathRegularizer) for x in made):
            return tuple(made)
    raise ValueError(
        "`regularizers` must be a sequence of those of `tfnode.regularizers`, or a mapping of "
        f"{sorted(_CLASSES)} to weights. Received: regularizers={identifier!r}"
    )


def serialize(regularizers: Sequence[PathRegularizer]) -> list[dict[str, Any]]:
    """Return configs, from which `get` makes equal regularisers."""
    return [keras.saving.serialize_keras_object(x) for x in regularizers]


def draw_noise(y: Any, seed: keras.random.SeedGenerator) -> Any:
    """Draw the noise of one solve: the structure of `y` in int8, -1 or 1.

    These are no floats, so that no gradient method looks for the gradient in them.
    """
    return tf.nest.map_structure(
        lambda x: tf.cast(2 * keras.random.randint(tf.shape(x), 0, 2, seed=seed) - 1, tf.int8), y
    )


def integrand(
    regularizers: tuple, noise: Any = None
) -> Callable[[Callable, Any, Any], tuple[Any, tf.Tensor]]:
    """Return the function that is integrated: the weighted sum of the regularisers' rates.

    Args:
        regularizers: A tuple of at least one.
        noise: What `draw_noise` returned, where one of them `needs_product`.

    Returns:
        A function `(dynamics, t, y) -> (derivative, rate)`, the latter a scalar.
    """

    def evaluate(dynamics: Callable, t: Any, y: Any) -> tuple[Any, tf.Tensor]:
        if noise is None:
            derivative, product = dynamics(t, y), None
        else:
            derivative, (product,) = with_products(dynamics, t, y, [noise])
        return derivative, weighted_rate(regularizers, derivative, product)

    return evaluate


def weighted_rate(regularizers: tuple, derivative: Any, product: Any) -> tf.Tensor:
    """Return the weighted sum of the rates of at least one regulariser, a scalar."""
    flat = tf.nest.flatten(derivative)
    rates = [x.weight * x.rate(flat, product) for x in regularizers]
    return sum(rates[1:], rates[0])


def with_products(
    dynamics: Callable, t: Any, y: Any, noises: list
) -> tuple[Any, list[list[tf.Tensor]]]:
    """Return the derivative and its vector-Jacobian product with each noise.

    Args:
        dynamics: `dynamics(t, y)`, the derivative.
        noises: Structures like `y`, of any dtype.

    Returns:
        `(derivative, products)`, a list of tensors `eps^T df/dy` for each noise.
    """
    leaves = tf.nest.flatten(y)
    several = len(noises) > 1
    with tf.GradientTape(persistent=several, watch_accessed_variables=False) as tape:
        tape.watch(leaves)
        derivative = dynamics(t, y)
    targets = tf.nest.flatten(derivative)
    products = []
    for noise in noises:
        eps = [tf.cast(e, x.dtype) for e, x in zip(tf.nest.flatten(noise), targets)]
        products.append(
            tape.gradient(targets, leaves, eps, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        )
    return derivative, products


def _mean_square(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the mean square of all elements, at least in float32; 0 without elements."""
    dtype = tf.float64 if any(x.dtype == tf.float64 for x in tensors) else tf.float32
    total = sum(tf.reduce_sum(tf.square(tf.cast(x, dtype))) for x in tensors)
    size = sum(tf.cast(tf.size(x), dtype) for x in tensors)
    return total / tf.maximum(size, 1.0)
