"""Time series that were measured: what is dropped, standardised, held out, and given to models."""

import hashlib
import importlib.util

import numpy as np
import pytest

from tfnode import data
from tfnode.data import aeon_files, japanese_vowels, series

SHAPES = {
    "japanese_vowels": ((270, 29, 13), (370, 29, 13), 9, 0.064),
    "basic_motions": ((40, 100, 7), (40, 100, 7), 4, 0.01),
    "italy_power_demand": ((67, 24, 2), (1029, 24, 2), 2, 1 / 24),
}
IN_AEON = pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason="aeon is missing")
DIGEST = "8d052fdf532cda2563f2776ffb5405eba9fb74c8302891d4667cd21bc51f6ee3"
NAMES = ["japanese_vowels", *(pytest.param(name, marks=IN_AEON) for name in list(SHAPES)[1:])]


def _made(missing=0.0, lengths=(5, 9, 7), name="made"):
    """Series whose values name the sample and the point."""
    made = [
        np.stack([10.0 * i + np.arange(n), np.full(n, 100.0 * i)], 1) for i, n in enumerate(lengths)
    ]
    part = made, list(range(len(lengths)))
    return series.prepare(name, "up", part, part, step=0.5, missing=missing)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_types_and_scale(name):
    dataset = data.load(name)
    train, test, classes, step = SHAPES[name]
    assert (dataset.name, dataset.score) == (name, "accuracy")
    assert (dataset.x_train.shape, dataset.x_test.shape) == (train, test)
    assert all(x.dtype == np.float32 for x in (dataset.x_train, dataset.x_test))
    assert all(y.dtype == np.int32 for y in (dataset.y_train, dataset.y_test))
    assert set(dataset.y_train) == set(dataset.y_test) == set(range(classes))
    assert dataset.shape == {"input_shape": (train[1], train[2] - 1), "num_classes": classes}
    values, times = dataset.inputs(dataset.x_train)
    np.testing.assert_allclose(np.nanmean(values, (0, 1)), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(values, (0, 1)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(times[0, :2], [0.0, step])
    assert (np.diff(times) >= 0.0).all()


def test_japanese_vowels_are_those_published():
    """Utterances of each speaker, lengths, and a value to six digits, from the archive."""
    dataset = data.load("japanese_vowels")
    assert np.bincount(dataset.y_train).tolist() == [30] * 9
    assert np.bincount(dataset.y_test).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    observed = ~np.isnan(dataset.x_train[..., :-1])
    assert (observed.all(-1) == observed.any(-1)).all()
    lengths = observed[..., 0].sum(1)
    assert (lengths.min(), lengths.max(), lengths.sum()) == (7, 26, 4274)
    lengths = (~np.isnan(dataset.x_test[..., 0])).sum(1)
    assert (lengths.min(), lengths.max(), lengths.sum()) == (7, 29, 5687)
    # The first speaker is not the most frequent one of the test set.
    assert dataset.constant_score == pytest.approx(31 / 370)


def test_the_file_is_checked(monkeypatch):
    monkeypatch.setattr(japanese_vowels, "SHA256", "0" * 64)
    with pytest.raises(data.DataError, match="SHA-256 0000.*Received: 1d9cc4.*Install"):
        data.load("japanese_vowels")


def test_short_series_repeat_their_last_time_without_values():
    dataset = _made()
    values, times = dataset.inputs(dataset.x_train)
    np.testing.assert_array_equal(times[0], [0, 0.5, 1, 1.5, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(np.isnan(values[0]).all(1), [False] * 5 + [True] * 4)
    assert not np.isnan(values[1]).any()


@pytest.mark.parametrize("missing", [0.3, 0.5, 0.7, 0.9])
def test_whole_observations_are_dropped(missing):
    dataset = data.load("japanese_vowels", missing=missing)
    whole = data.load("japanese_vowels")
    for few, all_ in ((dataset.x_train, whole.x_train), (dataset.x_test, whole.x_test)):
        left, there = (~np.isnan(x[..., :-1]) for x in (few, all_))
        assert (left.all(-1) == left.any(-1)).all()
        lengths = there[..., 0].sum(1)
        np.testing.assert_array_equal(
            left[..., 0].sum(1), lengths - (missing * lengths).astype(int)
        )
        assert left.any((1, 2)).all()
        np.testing.assert_array_equal(few[..., -1], all_[..., -1])
        # Other points of each.
        assert len(np.unique(left[lengths == lengths[0], :, 0], axis=0)) > 1
    assert f"{100 * missing:g} % of the points missing" in dataset.source


def test_the_choice_depends_on_the_data_set_and_the_rate_alone():
    digests = set()
    for _ in range(2):
        np.random.seed(len(digests))
        x = data.load("japanese_vowels", missing=0.5).x_train
        digests.add(hashlib.sha256(np.isnan(x).tobytes()).hexdigest())
    # It is the same in every version, so that results can be compared.
    assert digests == {DIGEST}
    lengths = [40] * 3
    one, other, more = (
        np.isnan(_made(*args).x_train)
        for args in ((0.5, lengths, "one"), (0.5, lengths, "other"), (0.7, lengths, "one"))
    )
    assert (one != other).any()
    assert (one <= more).all() and more.sum() > one.sum()


def test_standardised_by_what_is_left_of_the_training_set():
    x = np.arange(12.0).reshape(1, 12, 1)
    dataset = series.prepare("made", "", (x, [0]), (x + 100.0, [1]), step=1.0, missing=0.5)
    kept = ~np.isnan(dataset.x_train[0, :, 0])
    mean, spread = x[0, kept, 0].mean(), x[0, kept, 0].std()
    np.testing.assert_allclose(dataset.x_train[0, kept, 0], (x[0, kept, 0] - mean) / spread, 1e-5)
    there = ~np.isnan(dataset.x_test[0, :, 0])
    assert (there != kept).any()
    expected = (x[0, there, 0] + 100.0 - mean) / spread
    np.testing.assert_allclose(dataset.x_test[0, there, 0], expected, rtol=1e-5)


def test_hold_out_has_equal_shares():
    dataset = data.load("japanese_vowels", missing=0.3)
    split = dataset.hold_out(0.2)
    assert np.bincount(split.y_test).tolist() == [6] * 9
    assert np.bincount(split.y_train).tolist() == [24] * 9

    def rows(x):
        return sorted(row.tobytes() for row in x)

    assert sorted(rows(split.x_train) + rows(split.x_test)) == rows(dataset.x_train)
    np.testing.assert_array_equal(dataset.hold_out(0.2).x_test, split.x_test)
    assert np.bincount(dataset.hold_out(1e-3).y_test).tolist() == [1] * 9


def test_batches_are_values_and_times():
    dataset = data.load("japanese_vowels")
    (values, times), labels = next(iter(dataset.training_batches(8, seed=0)))
    assert (values.shape, times.shape, labels.shape) == ((8, 29, 12), (8, 29), (8,))
    assert (values.dtype, times.dtype, labels.dtype) == ("float32", "float32", "int32")
    (values, times), labels = next(iter(dataset.test_batches(370)))
    np.testing.assert_array_equal(values, dataset.x_test[..., :-1])
    np.testing.assert_array_equal(times, dataset.x_test[..., -1])
    np.testing.assert_array_equal(labels, dataset.y_test)


@pytest.mark.parametrize("missing", [-0.1, 0.91, float("nan"), True])
def test_bad_rates(missing):
    with pytest.raises(ValueError, match="`missing` must be .*Received: missing="):
        data.load("japanese_vowels", missing=missing)


def test_without_aeon(monkeypatch, tmp_path):
    monkeypatch.setattr(aeon_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.DataError, match=r"pip install 'tfnode\[series\]'"):
        data.load("basic_motions")


def test_files_of_another_aeon(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("aeon", tmp_path / "__init__.py")
    monkeypatch.setattr(aeon_files.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(data.DataError, match="Received: no such file"):
        data.load("basic_motions")


def test_the_files_of_the_archive(tmp_path):
    text = "#Words.\n@classLabel true up down\n@data\n1,2,3:4,5,6:down\n7,8,9:0,1,2:up\n"
    (tmp_path / "x.ts").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    found, classes = aeon_files._part(tmp_path / "x.ts", digest)
    np.testing.assert_array_equal(found[0], [[1, 4], [2, 5], [3, 6]])
    assert (found[1].tolist(), classes) == ([[7, 0], [8, 1], [9, 2]], [1, 0])
