"""Images that are moved at random."""

import numpy as np
import pytest
import tensorflow as tf

from tfnode.data import Augmentation


def _images(n=64):
    """One bright pixel each, eight right of the centre of 17x17."""
    images = np.zeros((n, 17, 17, 1), np.float32)
    images[:, 8, 16] = 1.0
    return tf.constant(images)


def _places(images):
    """Centres of mass about the middle, in pixels down and right, `(n, 2)`."""
    images = np.asarray(images)[..., 0]
    place = np.arange(17) - 8.0
    mass = images.sum((1, 2))
    return np.stack([images.sum(2) @ place / mass, images.sum(1) @ place / mass], 1)


def test_nothing_moves():
    images = tf.random.stateless_uniform((3, 28, 28, 1), [0, 1])
    moved = Augmentation()(images, [1, 2])
    np.testing.assert_allclose(moved, images, atol=1e-6)


def test_shift():
    images = tf.roll(_images(), -8, axis=2)
    moved = _places(Augmentation(shift=3.0)(images, [1, 2]))
    assert np.abs(moved).max() <= 3.0 + 1e-4
    assert (moved.max(0) > 2.5).all() and (moved.min(0) < -2.5).all()


def test_rotation_about_the_centre():
    images = tf.roll(_images(), -2, axis=2)
    down, right = _places(Augmentation(rotation=90.0)(images, [1, 2])).T
    angle = np.degrees(np.arctan2(down, right))
    assert -90.0 <= angle.min() < -70.0 < 70.0 < angle.max() <= 90.0
    # Interpolation in a square of pixels has its centre of mass within half a pixel.
    assert np.hypot(down, right) == pytest.approx(6.0, abs=0.5)


def test_zoom():
    images = tf.roll(_images(), -4, axis=2)
    down, right = _places(Augmentation(zoom=0.5)(images, [1, 2])).T
    assert down == pytest.approx(0.0, abs=1e-4)
    # Bilinear interpolation again: within half a pixel.
    assert 4 / 1.5 - 0.5 <= right.min() < 3.5 and 5.0 < right.max() <= 4 * 1.5 + 0.5


def test_seed_alone_decides():
    images = tf.random.stateless_uniform((1, 17, 17, 1), [0, 1]) * tf.ones([4, 1, 1, 1])
    moves = Augmentation(2.0, 10.0, 0.1)
    first, again, other = (moves(images, seed) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first[0] - first[1]).max() > 0.1
