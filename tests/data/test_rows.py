"""`series_from_rows`: a table against what was written by hand."""

import numpy as np
import pytest

from tfnode.data import series_from_rows

NAN = np.nan
IDS = ["b", "a", "b", "c", "b", "a"]
TIMES = [1_700_000_003.5, 2.0, 1_700_000_000.0, 7.0, 1_700_000_000.25, -1.0]
VALUES = [[3.0, NAN], [5.0, 50.0], [1.0, 10.0], [6.0, 60.0], [NAN, 20.0], [4.0, NAN]]


def test_a_table_by_hand():
    names, values, times = series_from_rows(IDS, TIMES, VALUES)
    assert names.tolist() == ["a", "b", "c"]
    pad = [NAN, NAN]
    expected = [
        [[4.0, NAN], [5.0, 50.0], pad],
        [[1.0, 10.0], [NAN, 20.0], [3.0, NAN]],
        [[6.0, 60.0], pad, pad],
    ]
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(times, [[0, 3, 3], [0, 0.25, 3.5], [0, 0, 0]])
    assert values.dtype == times.dtype == np.float32


def test_the_order_of_the_rows_does_not_matter():
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled = [np.asarray(x)[order] for x in (IDS, TIMES, VALUES)]
    for a, b in zip(series_from_rows(*shuffled), series_from_rows(IDS, TIMES, VALUES)):
        np.testing.assert_array_equal(a, b)


def test_a_pandas_table():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"id": IDS, "time": TIMES})
    table[["x", "y"]] = VALUES
    table["label"] = [1, 0, 1, 2, 1, 0]
    found = series_from_rows(table["id"], table["time"], table[["x", "y"]])
    for a, b in zip(found, series_from_rows(IDS, TIMES, VALUES)):
        np.testing.assert_array_equal(a, b)
    assert table.groupby("id")["label"].first().loc[found[0]].tolist() == [0, 1, 2]


@pytest.mark.parametrize("start", [1_700_000_000_000_000_000, -(2**63), 2**64 - 201])
def test_integers_keep_their_digits(start):
    """A hundred nanoseconds, which float64 cannot tell apart today."""
    times = np.array([start + 200, start, start + 100])
    found = series_from_rows([1, 1, 1], times, np.zeros((3, 1)))[2]
    np.testing.assert_array_equal(found, [[0.0, 100.0, 200.0]])
    narrow = np.array([120, -120, 4], np.int8)
    found = series_from_rows([1, 1, 1], narrow, np.zeros((3, 1)))[2]
    np.testing.assert_array_equal(found, [[0.0, 124.0, 240.0]])


def test_a_masked_value_is_missing():
    values = np.ma.array([[1.0], [2.0]], mask=[[False], [True]])
    np.testing.assert_array_equal(series_from_rows([1, 1], [0.0, 1.0], values)[1], [[[1.0], [NAN]]])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"times": ["1"] * 6}, "`times` must be numbers.* Received: dtype=<U1"),
        ({"times": np.zeros(6, "datetime64[s]")}, "seconds since .* Received: dtype=datetime64"),
        ({"times": TIMES[:5]}, r"Received: shapes \(6,\), \(5,\), \(6, 2\)"),
        ({"values": [1.0] * 6}, r"Received: shapes \(6,\), \(6,\), \(6,\)"),
        ({"ids": [1.0, NAN, 2.0, 2.0, NAN, 1.0]}, r"needs an id.*ids\[1\]=nan, and 2 such"),
        ({"ids": [*IDS[:5], None]}, r"needs an id.*ids\[5\]=None, and 1 such"),
        ({"ids": np.array([*IDS[:5], 1], object)}, r"one kind. Received: .*\['int', 'str'\]"),
        ({"ids": [], "times": np.zeros(0), "values": np.zeros((0, 2))}, "a row at least"),
        ({"times": [*TIMES[:3], NAN, *TIMES[4:]]}, "finite. Received: one that is not, of id=c"),
        ({"times": [*TIMES[:5], 2.0]}, "merge rows .* two rows of id=a at time=2"),
        ({"times": [1e9 + 1e-3, *TIMES[1:2], 0.0, TIMES[3], 1e9, TIMES[5]]}, "float32.* of id=b"),
    ],
)
def test_wrong_tables(changes, message):
    with pytest.raises(ValueError, match=message):
        series_from_rows(**{"ids": IDS, "times": TIMES, "values": VALUES, **changes})
