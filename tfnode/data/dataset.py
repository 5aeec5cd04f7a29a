"""`Dataset`: images with labels, and their batches."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfnode.data.augmentation import Augmentation

MEAN = 0.1307
STANDARD_DEVIATION = 0.3081


class Dataset(NamedTuple):
    """Images with labels, in memory.

    Attributes:
        name: `"mnist"` or `"digits"`.
        source: The origin of the data, for people.
        x_train, x_test: uint8, `(samples, 28, 28, 1)`, 0 is background.
        y_train, y_test: uint8, `(samples,)`, the digit.
    """

    name: str
    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def score(self) -> str:
        """Return the name of the score that judges models of these data."""
        return "accuracy"

    @property
    def shape(self) -> dict[str, Any]:
        """Return the arguments of a model's function that depend on the data."""
        return {}

    @property
    def constant_score(self) -> float | None:
        """Return the accuracy on the test set of the class most frequent in training.

        It is the first of equally frequent ones. Without accuracy as the score it is `None`.
        """
        if self.score != "accuracy":
            return None
        return float((self.y_test == np.bincount(self.y_train).argmax()).mean())

    @staticmethod
    def inputs(x: Any) -> tf.Tensor:
        """Return the inputs of a model for a tensor of samples."""
        return normalize(x)

    def hold_out(self, fraction: float) -> "Dataset":
        """Return a data set with a part of the training set in place of the test set.

        Args:
            fraction: Fraction of the training samples. At least one is held out, and one is left.

        Returns:
            A `Dataset` of the other training samples. Its test set has those held out, the same
            ones whatever the seed of a run.
        """
        size = len(self.y_train)
        held_out = np.zeros(size, bool)
        count = min(max(round(fraction * size), 1), size - 1)
        held_out[np.random.default_rng(0).permutation(size)[:count]] = True
        return self._replace(
            x_train=self.x_train[~held_out],
            y_train=self.y_train[~held_out],
            x_test=self.x_train[held_out],
            y_test=self.y_train[held_out],
        )

    def training_batches(
        self,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        augmentation: Augmentation | None = None,
    ) -> tf.data.Dataset:
        """Return batches without end for training, in another order in each epoch.

        The order depends on `seed` and the number of the epoch alone. The moves of the images
        depend on those and the number of the batch. So training can be resumed anywhere. The
        last batch of an epoch is smaller where the batch size does not divide the samples: an
        epoch has `steps(batch_size)` batches.

        Args:
            batch_size: Samples in a batch.
            seed: Seed of the shuffling.
            epoch: The first epoch, from 0.
            augmentation: A `tfnode.data.Augmentation`, or `None`.

        Returns:
            A `tf.data.Dataset` of `(images, labels)`: float32 `(batch, 28, 28, 1)`,
            normalised, and uint8 `(batch,)`.
        """
        images, labels = tf.constant(self.x_train), tf.constant(self.y_train)
        size = len(self.y_train)

        def order(number: tf.Tensor) -> tf.data.Dataset:
            indices = tf.random.experimental.stateless_shuffle(
                tf.range(size), seed=tf.stack([tf.cast(seed, tf.int64), number])
            )
            batches = tf.data.Dataset.from_tensor_slices(indices).batch(batch_size)
            if augmentation is None:
                return batches.map(lambda i: (self.inputs(tf.gather(images, i)), i))
            key = tf.random.experimental.stateless_fold_in([seed, 0], number)

            def moved(batch: tf.Tensor, i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                pixels = tf.cast(tf.gather(images, i), tf.float32)
                fold_in = tf.random.experimental.stateless_fold_in
                return self.inputs(augmentation(pixels, fold_in(key, batch))), i

            return batches.enumerate().map(moved)

        return (
            tf.data.Dataset.range(epoch, np.iinfo(np.int64).max)
            .flat_map(order)
            .map(lambda x, i: (x, tf.gather(labels, i)))
            .prefetch(tf.data.AUTOTUNE)
        )

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        """Return the test set once, in order; batches as in `training_batches`."""
        return (
            tf.data.Dataset.from_tensor_slices((self.x_test, self.y_test))
            .batch(batch_size)
            .map(lambda x, y: (self.inputs(x), y))
            .prefetch(tf.data.AUTOTUNE)
        )

    def steps(self, batch_size: int) -> int:
        """Return the number of training batches in an epoch."""
        return -(-len(self.y_train) // batch_size)


def normalize(images: Any) -> tf.Tensor:
    """Return images of 0 to 255 as float32, normalised by MNIST's mean and deviation."""
    return (tf.cast(images, tf.float32) / 255.0 - MEAN) / STANDARD_DEVIATION
