"""Classification of an image file. TensorFlow is loaded once the image is read."""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tfnode.lab.command_line import quiet_import
from tfnode.runs.errors import RunError
from tfnode.runs.record import read_record
from tfnode.serving import trained
from tfnode.serving.digit_image import BOXES, Prepared, prepare


class Classified(NamedTuple):
    """The result of `classify`.

    Attributes:
        probabilities: float32, `(classes,)`.
        prepared: The image that the model saw, and what was done to get it.
    """

    probabilities: np.ndarray
    prepared: Prepared


def classify(
    run: str | os.PathLike[str], image: str | os.PathLike[str], *, invert: bool | None = None
) -> Classified:
    """Return the probabilities that a model gives to the classes of an image.

    Args:
        run: Path of a run directory of a classifier of grey images.
        image: Path of an image file. Transparent parts count as white.
        invert: Whether the image is black on white; by default its border tells.

    Raises:
        RunError: If the run holds no such model, or the file no image.
    """
    path = trained.model_file(run)
    picture = _read(image)

    with quiet_import():
        import keras

        from tfnode.data.dataset import normalize

        model = trained.load(path)
    shapes: list[Any] = [getattr(model, x, None) for x in ("input_shape", "output_shape")]
    if not _takes_grey_images(*shapes):
        raise RunError(
            f"Expected a classifier of grey images, (height, width, 1), in {path}. Received: a "
            f"model from {shapes[0]} to {shapes[1]}"
        )
    box = BOXES.get(_dataset(run), BOXES["mnist"])
    prepared = prepare(picture, shapes[0][1:3], invert, box)
    inputs = prepared.pixels[np.newaxis, ..., np.newaxis].astype(np.float32)
    if not trained.takes_pixels(model):
        inputs = normalize(inputs)
    logits = model(inputs, training=False)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    if not np.isfinite(probabilities).all():
        raise RunError(f"The model in {path} gives NaN: did its training diverge?")
    return Classified(probabilities, prepared)


def _dataset(run: str | os.PathLike[str]) -> str:
    """Return the name of the data that a run was trained on, empty where its record is gone."""
    try:
        return str(read_record(run)["dataset"]["name"])
    except RunError:
        return ""


def _read(path: str | os.PathLike[str]) -> Image.Image:
    """Return the image in a file in 8-bit grey.

    Raises:
        RunError: If the file holds no image.
    """
    if not pathlib.Path(path).is_file():
        raise RunError(f"Expected an image file. Received: {path}")
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                return _from_wide(image)
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("L")
    # Damaged images raise almost anything: OSError, SyntaxError, struct.error, MemoryError.
    except Exception as error:
        raise RunError(
            f"Expected an image, for example PNG or JPEG, in {path}. Received: "
            f"{trained.brief(error)}"
        ) from error


def _from_wide(image: Image.Image) -> Image.Image:
    """Return grey of 16 bits as grey of 8, which Pillow itself cuts off at 255."""
    if image.mode == "F":
        raise ValueError("pixels that are floats, whose range is not known")
    values = np.asarray(image, np.float64) * (255.0 / 65535.0)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _takes_grey_images(inputs: Any, outputs: Any) -> bool:
    """Return whether these are the shapes of a classifier of grey images."""
    image = isinstance(inputs, tuple) and len(inputs) == 4 and inputs[3] == 1
    return image and None not in inputs[1:] and isinstance(outputs, tuple) and len(outputs) == 2
