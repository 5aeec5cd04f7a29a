"""`series_from_rows`: a table of irregular series as models take them."""

from typing import Any

import numpy as np


def series_from_rows(
    ids: Any, times: Any, values: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of a table, in any order, as one padded series for each id.

    Args:
        ids: `(rows,)`, numbers or strings: the series that a row belongs to.
        times: `(rows,)` numbers.
        values: `(rows, channels)` numbers, NaN where one is missing.

    Returns:
        `(names, values, times)`: the ids, sorted, `(series,)`; float32
        `(series, n, channels)` and `(series, n)`, with `n` the points of the longest series. The
        times count from the first of each series, so that float32 has room for them. A shorter
        series repeats its last time, without values.

    Raises:
        ValueError: If the shapes do not fit, if a time is not finite, or if two rows of a series
            have the same time in float32.

    Example:
    ```python
    names, values, times = tfnode.data.series_from_rows(
        table["id"], table["time"], table[["x", "y"]]  # The columns of a pandas table.
    )
    ```
    """
    ids, values = np.asarray(ids), np.asarray(values, np.float64)
    times = np.asarray(times)
    if times.dtype.kind not in "iuf":
        raise ValueError(
            "`times` must be numbers; of dates take the seconds since one of them. Received: "
            f"dtype={times.dtype}"
        )
    if values.ndim != 2 or not ids.shape == times.shape == values.shape[:1] or not len(ids):
        raise ValueError(
            "Expected ids (rows,), times (rows,) and values (rows, channels), with a row at least. "
            f"Received: shapes {ids.shape}, {times.shape}, {values.shape}"
        )
    names, index = np.unique(ids, return_inverse=True)
    order = np.lexsort((times, index))
    index, times, values = index[order], times[order].astype(np.float64), values[order]
    if not np.isfinite(times).all():
        bad = names[index[~np.isfinite(times)][0]]
        raise ValueError(f"The times must be finite. Received: one that is not, of id={bad}")
    counts = np.bincount(index)
    firsts = np.cumsum(counts) - counts
    since = (times - times[firsts][index]).astype(np.float32)
    repeated = np.flatnonzero((np.diff(index) == 0) & (np.diff(since) == 0))
    if len(repeated):
        bad = repeated[0]
        raise ValueError(
            "A series has one row for each time that float32 can tell from others; merge rows of "
            f"the same time. Received: two rows of id={names[index[bad]]} at time={times[bad]:.9g}"
        )
    place = np.arange(len(index)) - firsts[index]
    padded = np.full((len(names), counts.max(), values.shape[1]), np.nan, np.float32)
    padded[index, place] = values
    clock = np.repeat(since[firsts + counts - 1][:, np.newaxis], counts.max(), axis=1)
    clock[index, place] = since
    return names, padded, clock
