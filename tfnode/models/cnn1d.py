"""`cnn1d`: the convolutional baseline for time series."""

import keras
from keras import layers

from tfnode.layers import SeriesGrid
from tfnode.models.series_inputs import classifier, noisy, series_inputs


def cnn1d(
    input_shape: tuple[int | None, int] = (29, 12),
    num_classes: int = 9,
    *,
    filters: int = 16,
    points: int | None = None,
    noise: float = 0.0,
) -> keras.Model:
    """Return the fully convolutional network of Wang, Yan and Oates, with logits out.

    ```
    values, times -> grid -> 3 times (convolution, batch norm, ReLU) -> average pool -> dense
    ```

    The series is put on a regular grid: see `tfnode.layers.SeriesGrid`. The convolutions have the
    kernels 8, 5 and 3. With the defaults the model has 7,513 parameters that
    train.

    Args:
        input_shape: `(n, channels)`; `n` may be `None` if `points` is given.
        num_classes: Number of logits.
        filters: Channels of the first and the last convolution, 128 as published. The second has
            twice as many.
        points: Times of the grid, `None` for `n`.
        noise: Standard deviation of normal noise on the values in training.

    Returns:
        A `keras.Model` of two inputs, `(values, times)`, see `tfnode.layers.SeriesGrid`: NaN is a
        missing value, and a series that ends early repeats its last time.

    Raises:
        ValueError: If an option is out of range.

    Reference: Wang, Yan, Oates, *Time Series Classification from Scratch with Deep Neural
    Networks: A Strong Baseline* (2017).
    """
    inputs = values, times = series_inputs(input_shape)
    x = SeriesGrid(grid_points(points, input_shape))(noisy(values, noise), times=times)
    for size, kernel in ((filters, 8), (2 * filters, 5), (filters, 3)):
        x = layers.Conv1D(size, kernel, padding="same")(x)
        # Keras's own momentum needs hundreds of steps until the averages are those of the data.
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling1D()(x)
    return classifier("cnn1d", inputs, x, num_classes)


def grid_points(points: int | None, input_shape: tuple[int | None, int]) -> int:
    """Return the number of times of a grid, by default that of the series.

    Raises:
        ValueError: If neither is known.
    """
    found = input_shape[0] if points is None else points
    if found is None:
        raise ValueError(
            "`points` must be given where the length of the series is open. "
            f"Received: points=None, input_shape={input_shape}"
        )
    return found
