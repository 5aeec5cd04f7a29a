"""Metrics for time series with missing points."""

from typing import Any

import keras

__all__ = ["RootMeanSquaredError"]


@keras.saving.register_keras_serializable("tfnode")
class RootMeanSquaredError(keras.metrics.RootMeanSquaredError):
    """Root of the mean squared error of a coordinate, over the points that have a weight.

    Args:
        name, dtype: Those of `keras.metrics.Metric`; the name is "rmse".

    Shapes:
        `y_true`: `(batch, points, n + 1)`, the last channel the weight, 1 or 0.
        `y_pred`: `(batch, points, n)`.
        `sample_weight`: A scalar; one weight a sample, `(batch,)`; or one a point,
        `(batch, points)`. It multiplies the weights of the points.

    Example:
    ```python
    model.compile("adam", loss, weighted_metrics=[tfnode.metrics.RootMeanSquaredError()])
    ```
    """

    def __init__(self, name: str = "rmse", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        weights = y_true[..., -1]
        if sample_weight is not None:
            given = keras.ops.cast(sample_weight, weights.dtype)
            if len(given.shape) == 1:
                given = given[:, None]
            elif len(given.shape) == 3 and given.shape[-1] == 1:
                given = given[..., 0]
            elif len(given.shape) > 2:
                raise ValueError(
                    "`sample_weight` must be a scalar, one weight a sample or one a point. "
                    f"Received: sample_weight of shape {given.shape}"
                )
            weights = weights * given
        super().update_state(y_true[..., :-1], y_pred, weights)
