"""The spirals: their curves in closed form, and what of them models may see."""

import numpy as np
import pytest

from tfnode import data
from tfnode.data import spirals


@pytest.fixture(scope="module")
def dataset():
    return data.load("spirals", points=30)


def test_position():
    """Radius and angle grow with the time, the angle with the sign of the direction."""
    t = np.linspace(0.5, 18.0, 50)
    for clockwise, centre, turn in ((False, 5.0, 1.0), (True, -5.0, -1.0)):
        x, y = (spirals.position(t, clockwise) - (centre, 0.0)).T
        np.testing.assert_allclose(np.hypot(x, y), 0.3 * t)
        np.testing.assert_allclose(np.unwrap(np.arctan2(y, x)), turn * t)


def test_shapes_and_types(dataset):
    assert dataset.name == "spirals"
    assert dataset.score == "rmse"
    assert dataset.constant_score is None
    assert dataset.shape == {}
    assert "30 of 100 points" in dataset.source
    assert dataset.x_train.shape == (1000, 100, 3)
    assert dataset.x_test.shape == (200, 100, 3)
    assert dataset.y_train.shape == (1000, 200, 3)
    assert dataset.y_test.shape == (200, 200, 3)
    assert all(array.dtype == np.float32 for array in dataset[2:])


def test_training_targets_are_what_is_observed(dataset):
    np.testing.assert_array_equal(dataset.y_train[:, :100], dataset.x_train)
    assert not dataset.y_train[:, 100:].any()
    observed = dataset.x_train[..., 2]
    assert set(np.unique(observed)) == {0.0, 1.0}
    assert (observed.sum(axis=1) == 30).all()
    assert not dataset.x_train[observed == 0.0].any()
    # Other points of each.
    assert len(np.unique(observed, axis=0)) == 1000


def test_testing_targets_are_the_true_path_behind():
    found = spirals.held_out(points=30)
    dataset = data.load("spirals", points=30)
    assert not dataset.y_test[:, :100].any()
    assert (dataset.y_test[:, 100:, 2] == 1.0).all()
    np.testing.assert_array_equal(dataset.y_test[:, 100:, :2], found.path[:, 200:].astype("f4"))
    # From the centre of each, equal steps of the angle, one way or the other.
    x, y = np.moveaxis(found.path - np.where(found.clockwise, -5, 5)[:, None, None] * (1, 0), -1, 0)
    steps = np.diff(np.unwrap(np.arctan2(y, x)))
    turn = np.where(found.clockwise, -1.0, 1.0)[:, None] * np.ones(299)
    np.testing.assert_allclose(steps, turn * spirals.TIME_STEP)
    assert found.clockwise.sum() == 100
    assert len(np.unique(found.path[:, 0], axis=0)) == 200


def test_noise():
    found = spirals.held_out(noise=0.3)
    errors = found.seen - found.path[:, 100:200]
    assert errors.std() == pytest.approx(0.3, rel=0.02)
    assert abs(errors.mean()) < 0.01
    clean = spirals.held_out(noise=0.0)
    np.testing.assert_array_equal(clean.seen, clean.path[:, 100:200])
    np.testing.assert_array_equal(clean.path, found.path)


def test_more_points_are_the_same_and_more():
    few, many, all_ = (spirals.held_out(points=n).observed for n in (30, 50, 100))
    assert (few <= many).all()
    assert many.sum() == 200 * 50
    assert all_.all()


def test_training_and_testing_are_different(dataset):
    """No test spiral starts where one for training does."""
    training = spirals.pieces(1000, spirals.TRAINING_STARTS, spirals.TRAINING_SEED, 30, 0.3)
    np.testing.assert_array_equal(dataset.x_train, spirals.inputs(training))
    starts = spirals.held_out(points=30).path[:, None, 100], training.path[None, :, 100]
    assert np.abs(starts[0] - starts[1]).max(axis=-1).min() > 0.0


def test_it_is_always_the_same(dataset):
    for one, other in zip(dataset[2:], data.load("spirals", points=30)[2:]):
        np.testing.assert_array_equal(one, other)


def test_batches(dataset):
    x, y = next(iter(dataset.training_batches(50, seed=0)))
    assert x.shape == (50, 100, 3)
    assert y.shape == (50, 200, 3)
    # As they are, in some order.
    assert (x.numpy()[:, None] == dataset.x_train[None]).all((2, 3)).any(1).all()
    x, y = next(iter(dataset.test_batches(200)))
    np.testing.assert_array_equal(x, dataset.x_test)
    np.testing.assert_array_equal(y, dataset.y_test)


@pytest.mark.parametrize(
    "options", [{"points": 1}, {"points": 101}, {"points": 5.0}, {"noise": -1}]
)
def test_bad_options(options):
    with pytest.raises(ValueError, match="Received"):
        data.load("spirals", **options)


def test_other_data_have_no_options():
    with pytest.raises(TypeError, match="points"):
        data.load("digits", points=30)
