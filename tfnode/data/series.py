"""`Series`: time series with labels, of which points are missing."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from tfnode.data.dataset import Dataset

SPLIT_SEED = 0
# Of a series at least one point is left at this rate.
MOST_MISSING = 0.9


class Series(Dataset):
    """Time series with labels, in memory.

    Attributes:
        name, source: As in `Dataset`.
        x_train, x_test: float32, `(samples, points, channels + 1)`. The last channel is the
            time, the others are the values, NaN where they are missing. A series with fewer
            points repeats its last time, without values.
        y_train, y_test: int32, `(samples,)`, the class.
    """

    __slots__ = ()

    @staticmethod
    def inputs(x: Any) -> Any:
        """Return the inputs of a model: values `(batch, points, channels)` and times."""
        return x[..., :-1], x[..., -1]

    @property
    def shape(self) -> dict[str, Any]:
        points, channels = self.x_train.shape[1:]
        classes = int(max(self.y_train.max(), self.y_test.max())) + 1
        return {"input_shape": (points, channels - 1), "num_classes": classes}

    def hold_out(self, fraction: float) -> "Series":
        """Return a data set with a part of the training set in place of the test set.

        Args:
            fraction: Fraction of the training samples, at least one of each class.

        Returns:
            A `Series` of the other training samples. Its test set has those held out, the same
            ones whatever the seed of a run, with equal shares of each class.
        """
        classes = len(np.unique(self.y_train))
        count = max(round(fraction * len(self.y_train)), classes)
        x_train, x_held_out, y_train, y_held_out = train_test_split(
            self.x_train,
            self.y_train,
            test_size=count,
            random_state=SPLIT_SEED,
            stratify=self.y_train,
        )
        return self._replace(x_train=x_train, y_train=y_train, x_test=x_held_out, y_test=y_held_out)


def prepare(
    name: str,
    source: str,
    train: tuple[Sequence[np.ndarray], Sequence[int]],
    test: tuple[Sequence[np.ndarray], Sequence[int]],
    *,
    step: float,
    missing: float,
) -> Series:
    """Return series as a data set: points dropped, values standardised, rows of one length.

    Whole observations are dropped, all channels of a point at once, as Kidger et al. do: of a
    series of `n` points `int(missing * n)`. The choice depends on the name of the data set and
    the rate alone. The points that a lower rate drops are among those of a higher one.

    Each channel is shifted and scaled by the mean and the standard deviation of the points of
    the training set that are left.

    Args:
        name: The name of the data set.
        source: The origin of the data, for people.
        train, test: The series, each float `(points, channels)`, and their classes.
        step: Time between two points.
        missing: Rate of points that are dropped, from 0 to 0.9.

    Raises:
        ValueError: If the rate is out of range.

    Reference: Kidger, Morrill, Foster, Lyons, *Neural Controlled Differential Equations for
    Irregular Time Series* (2020), section 4.1.
    """
    if isinstance(missing, bool) or not 0.0 <= missing <= MOST_MISSING:
        raise ValueError(
            f"`missing` must be a number from 0 to {MOST_MISSING}. Received: missing={missing!r}"
        )
    longest = max(len(values) for values in [*train[0], *test[0]])
    parts = [
        _rows(part[0], longest, step, missing, [zlib.crc32(name.encode()), i])
        for i, part in enumerate((train, test))
    ]
    seen = parts[0][..., :-1]
    mean, spread = np.nanmean(seen, axis=(0, 1)), np.nanstd(seen, axis=(0, 1))
    for rows in parts:
        rows[..., :-1] = (rows[..., :-1] - mean) / spread
    x_train, x_test = (rows.astype(np.float32) for rows in parts)
    y_train, y_test = (np.asarray(classes, np.int32) for _, classes in (train, test))
    source = f"{source}, {100 * missing:g} % of the points missing"
    return Series(name, source, x_train, y_train, x_test, y_test)


def _rows(
    series: Sequence[np.ndarray], longest: int, step: float, missing: float, seed: list[int]
) -> np.ndarray:
    """Return series as rows of values and times, `(samples, longest, channels + 1)`."""
    generator = np.random.default_rng(seed)
    rows = np.full((len(series), longest, series[0].shape[1] + 1), np.nan)
    for row, values in zip(rows, series):
        points = len(values)
        row[:points, :-1] = values
        row[generator.permutation(points)[: int(missing * points)], :-1] = np.nan
        row[:, -1] = step * np.minimum(np.arange(longest), points - 1)
    return rows
