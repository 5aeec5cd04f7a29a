"""Losses for time series with missing points."""

import math
from typing import Any

import keras
from keras import ops

from tfnode import checks

__all__ = ["GaussianLikelihood"]


@keras.saving.register_keras_serializable("tfnode")
class GaussianLikelihood(keras.losses.Loss):
    """Negative logarithm of the likelihood of points under normal noise.

    ```
    loss = sum_i w_i (|y_i - prediction_i|^2 / (2 noise^2) + n/2 log(2 pi noise^2))
    ```

    over the points `i`, of `n` coordinates, of each sample.

    Args:
        noise: Standard deviation of each coordinate, a float above 0.
        **kwargs: Those of `keras.losses.Loss`.

    Shapes:
        `y_true`: `(batch, points, n + 1)`, the last channel the weight `w`, 1 or 0.
        `y_pred`: `(batch, points, n)`.

    Example:
    ```python
    model.compile("adam", tfnode.losses.GaussianLikelihood(0.3))
    ```
    """

    def __init__(self, noise: float, name: str = "gaussian_likelihood", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.noise = checks.positive("noise", noise, "a number above 0")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        points, weights = y_true[..., :-1], y_true[..., -1]
        squares = ops.sum((points - y_pred) ** 2, axis=-1) / (2.0 * self.noise**2)
        constant = 0.5 * points.shape[-1] * math.log(2.0 * math.pi * self.noise**2)
        return ops.sum(weights * (squares + constant), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise": self.noise}
