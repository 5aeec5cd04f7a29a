"""scikit-learn's digits: shape, type and a split that never changes."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tfnode import data


@pytest.fixture(scope="module")
def dataset():
    return data.load("digits")


def test_shapes_and_types(dataset):
    assert dataset.name == "digits"
    assert dataset.x_train.shape == (1437, 28, 28, 1)
    assert dataset.x_test.shape == (360, 28, 28, 1)
    assert dataset.y_train.shape == (1437,)
    assert dataset.y_test.shape == (360,)
    for array in dataset[2:]:
        assert array.dtype == np.uint8


def test_values(dataset):
    assert dataset.x_train.min() == 0
    assert dataset.x_train.max() == 255
    assert set(dataset.y_train) == set(dataset.y_test) == set(range(10))
    # Resizing keeps the mean, of 4.88 out of 16, but for the borders.
    assert dataset.x_train.mean() / 255 == pytest.approx(4.88 / 16, abs=0.02)


def test_split_is_fixed(dataset):
    again = data.load("digits")
    for one, other in zip(dataset[2:], again[2:]):
        np.testing.assert_array_equal(one, other)
    digest = hashlib.sha256(dataset.y_train.tobytes() + dataset.y_test.tobytes()).hexdigest()
    assert digest == "859da86469a170c7f72b5d431a12fb95becccf2f1044e310fc3eb5c07db0d7f1"


def test_no_overlap_and_nothing_lost(dataset):
    def rows(images):
        return {image.tobytes() for image in images}

    train, test = rows(dataset.x_train), rows(dataset.x_test)
    assert not train & test
    assert len(train) + len(test) == len(load_digits().target) == 1797


def test_images_belong_to_their_labels(dataset):
    """Every second pixel block back to 8x8 finds the same digit in the original."""
    original = load_digits()
    centres = (np.arange(8) * 28 + 14) // 8  # the middle of each old pixel
    small = dataset.x_test[:, centres][:, :, centres, 0].reshape(360, 64) / 255 * 16
    distances = ((small[:, None] - original.data[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(original.target[distances.argmin(1)], dataset.y_test)
