"""`Augmentation`: images shifted, turned and scaled at random."""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Augmentation(NamedTuple):
    """How far training images are moved at random, each by its own amount.

    One bilinear interpolation does all of it. Pixels from outside the image are background.

    Attributes:
        shift: Largest shift along each axis, in pixels.
        rotation: Largest angle to either side, in degrees.
        zoom: Height and width are scaled, each by a factor between `1 / (1 + zoom)` and
            `1 + zoom`.
    """

    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0

    def __call__(self, images: Any, seed: Any) -> Any:
        """Move images.

        Args:
            images: float32, `(batch, height, width, channels)`, 0 is background.
            seed: Two integers, a tensor of shape `(2,)`. The same images and seed give the
                same result.

        Returns:
            A tensor like `images`.
        """
        height, width = images.shape[1:3]
        batch = tf.shape(images)[0]
        amounts = tf.random.stateless_uniform((5, batch), seed, -1.0, 1.0)
        angle = amounts[0] * (self.rotation * math.pi / 180)
        scale_y, scale_x = tf.unstack(tf.exp(amounts[1:3] * math.log1p(self.zoom)))
        shift_y, shift_x = tf.unstack(amounts[3:] * self.shift)
        # Each pixel of the result is found at this place in the image, about its centre.
        a, b = tf.cos(angle) * scale_x, -tf.sin(angle) * scale_y
        c, d = tf.sin(angle) * scale_x, tf.cos(angle) * scale_y
        x, y = (width - 1) / 2, (height - 1) / 2
        rows = [a, b, x - a * x - b * y + shift_x, c, d, y - c * x - d * y + shift_y]
        return keras.ops.image.affine_transform(
            images,
            tf.stack([*rows, tf.zeros([batch]), tf.zeros([batch])], axis=1),
            data_format="channels_last",
        )
