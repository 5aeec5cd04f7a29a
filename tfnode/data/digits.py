"""scikit-learn's bundled digits: small and always there."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tfnode.data.dataset import Dataset

TEST_SAMPLES = 360
SPLIT_SEED = 0


def load() -> Dataset:
    """Load the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn.

    They are resized to 28x28 (bilinear) with values from 0 to 255. They are always split the same
    way, into 1,437 for training and 360 for testing, with equal shares of each digit.

    Reference: Alpaydin, Kaynak, *Optical Recognition of Handwritten Digits* (1998).
    """
    digits = load_digits()
    images = tf.image.resize(digits.images[..., np.newaxis] * (255.0 / 16.0), (28, 28)).numpy()
    images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=TEST_SAMPLES, random_state=SPLIT_SEED, stratify=labels
    )
    return Dataset("digits", "scikit-learn's load_digits", x_train, y_train, x_test, y_test)
