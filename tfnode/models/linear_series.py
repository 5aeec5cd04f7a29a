"""`linear_series`: the linear baseline for time series."""

import keras

from tfnode.layers import SeriesGrid
from tfnode.models.cnn1d import grid_points
from tfnode.models.series_inputs import classifier, noisy, series_inputs


def linear_series(
    input_shape: tuple[int | None, int] = (29, 12),
    num_classes: int = 9,
    *,
    points: int | None = None,
    noise: float = 0.0,
) -> keras.Model:
    """Return a linear classifier of time series, with logits out.

    ```
    values, times -> grid -> flatten -> dense
    ```

    The series is put on a regular grid: see `tfnode.layers.SeriesGrid`. With the defaults the
    model has 6,273 parameters.

    Args:
        input_shape: `(n, channels)`; `n` may be `None` if `points` is given.
        num_classes: Number of logits.
        points: Times of the grid, `None` for `n`.
        noise: Standard deviation of normal noise on the values in training.

    Returns:
        A `keras.Model` of two inputs, `(values, times)`, see `tfnode.layers.SeriesGrid`: NaN is a
        missing value, and a series that ends early repeats its last time.

    Raises:
        ValueError: If an option is out of range.
    """
    inputs = values, times = series_inputs(input_shape)
    x = SeriesGrid(grid_points(points, input_shape))(noisy(values, noise), times=times)
    return classifier("linear_series", inputs, keras.layers.Flatten()(x), num_classes)
