"""An image of a digit, made like those of a data set. TensorFlow has no part in it."""

from typing import NamedTuple

import numpy as np
from PIL import Image

# The box that a digit fits into, as a part of the image. MNIST's is 20 pixels of 28, with the
# centre of mass at pixel 14 from 0; scikit-learn's digits fill the image.
BOXES = {"mnist": 20 / 28, "digits": 1.0}
# Fractions of the range of the image: what counts as ink, and how little contrast is none.
INK = 0.25
LEAST_CONTRAST = 16


class Prepared(NamedTuple):
    """An image as a model takes it.

    Attributes:
        pixels: uint8, `(height, width)`, white on black.
        steps: What was done to the image, in words.
    """

    pixels: np.ndarray
    steps: list[str]


def prepare(
    image: Image.Image,
    size: tuple[int, int],
    invert: bool | None = None,
    box: float = BOXES["mnist"],
) -> Prepared:
    """Return an image as a data set was made: white on black, cropped, scaled, and centred.

    An image that has the size of the model is not moved, since it was prepared before.

    Args:
        image: In 8-bit grey.
        size: Height and width for the model.
        invert: Whether the image is black on white; `None` takes it from the image's border.
        box: The part of the image that the digit fits into, one of `BOXES`.
    """
    steps = []
    pixels = np.asarray(image, np.float64)
    if invert is None:
        invert = _is_light(pixels)
        steps.append("black on white, so inverted" if invert else "white on black")
    elif invert:
        steps.append("inverted")
    if invert:
        pixels = 255.0 - pixels
    if pixels.shape == size:
        return Prepared(pixels.astype(np.uint8), steps)
    pixels, low = pixels - pixels.min(), pixels.min()
    if pixels.max() < LEAST_CONTRAST:
        steps.append(f"nothing to see, scaled to {size[1]}x{size[0]}")
        return Prepared(_resized(pixels + low, size), steps)
    pixels *= 255.0 / pixels.max()
    # Paper is never quite even.
    pixels[pixels < INK * 255.0] = 0.0
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(box * n / m for n, m in zip(size, pixels.shape))
    height, width = (max(1, round(scale * n)) for n in pixels.shape)
    digit = _resized(pixels, (height, width))
    steps.append(f"cropped to {pixels.shape[1]}x{pixels.shape[0]}, scaled to {width}x{height}")
    steps.append("centred by its mass")
    return Prepared(_centred(digit, size), steps)


def _is_light(pixels: np.ndarray) -> bool:
    """Return whether the border of an image is nearer to its lightest than to its darkest."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return bool(np.median(border) > (pixels.min() + pixels.max()) / 2)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image of a size, uint8, with each pixel the mean of those that it covers."""
    image = Image.fromarray(pixels.astype(np.uint8))
    larger = size[0] > pixels.shape[0]
    method = Image.Resampling.BILINEAR if larger else Image.Resampling.BOX
    return np.asarray(image.resize((size[1], size[0]), method))


def _centred(digit: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image of a size with the centre of mass of a digit at half of it."""
    result = np.zeros(size, np.uint8)
    places = []
    for axis, length in enumerate(size):
        masses = digit.sum(axis=1 - axis, dtype=np.float64)
        centre = (masses @ np.arange(len(masses))) / masses.sum()
        first = round(length / 2 - centre)
        first = min(max(first, 0), length - len(masses))
        places.append(slice(first, first + len(masses)))
    result[tuple(places)] = digit
    return result
