"""`series_from_rows`: a table of irregular series as models take them."""

import math
from typing import Any

import numpy as np


def series_from_rows(
    ids: Any, times: Any, values: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of a table, in any order, as one padded series for each id.

    Args:
        ids: `(rows,)`, numbers or strings: the series that a row belongs to.
        times: `(rows,)` numbers. Integers, such as nanoseconds, keep all of their digits.
        values: `(rows, channels)` numbers, NaN where one is missing.

    Returns:
        `(names, values, times)`: the ids, sorted, `(series,)`; float32
        `(series, n, channels)` and `(series, n)`, with `n` the points of the longest series. The
        times count from the first of each series, so that float32 has room for them. A shorter
        series repeats its last time, without values.

    Raises:
        ValueError: If the shapes do not fit, if an id is missing, if a time is not finite, or if
            two rows of a series have the same time in float32.

    Example:
    ```python
    names, values, times = tfnode.data.series_from_rows(
        table["id"], table["time"], table[["x", "y"]]  # The columns of a pandas table.
    )
    ```
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
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
    names, index = _numbered(ids)
    order = np.lexsort((times, index))
    index, times, values = index[order], times[order], values[order]
    if not np.isfinite(times).all():
        bad = names[index[~np.isfinite(times)][0]]
        raise ValueError(f"The times must be finite. Received: one that is not, of id={bad}")
    counts = np.bincount(index)
    firsts = np.cumsum(counts) - counts
    # Float64 has no room for the nanoseconds of today. Differences of uint64 are exact.
    wide = times.astype(np.float64 if times.dtype.kind == "f" else np.uint64)
    since = (wide - wide[firsts][index]).astype(np.float32)
    repeated = np.flatnonzero((np.diff(index) == 0) & (np.diff(since) == 0))
    if len(repeated):
        bad = repeated[0]
        raise ValueError(
            "A series has one row for each time that float32 can tell from others; merge rows of "
            f"the same time. Received: two rows of id={names[index[bad]]} at time={times[bad]}"
        )
    place = np.arange(len(index)) - firsts[index]
    padded = np.full((len(names), counts.max(), values.shape[1]), np.nan, np.float32)
    padded[index, place] = values
    clock = np.repeat(since[firsts + counts - 1][:, np.newaxis], counts.max(), axis=1)
    clock[index, place] = since
    return names, padded, clock


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different ids, sorted, and the number of each row's, or raise `ValueError`."""
    missing = [
        i
        for i, x in enumerate(ids.tolist())
        if x is None or (isinstance(x, float) and math.isnan(x))
    ]
    if missing:
        raise ValueError(
            "Every row needs an id; leave out the rows without one. Received: "
            f"ids[{missing[0]}]={ids[missing[0]]}, and {len(missing)} such rows"
        )
    try:
        return np.unique(ids, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(x).__name__ for x in ids.tolist()})
        raise ValueError(
            f"`ids` must be numbers or strings, all of one kind. Received: ids of the types {kinds}"
        ) from error
