"""`python -m tfnode.classify RUN_DIR IMAGE`: what a trained model sees in an image file.

Uses the best model of the run by validation (best.keras), else the final one (model.keras).
The image is made grey, scaled to the size that the model takes, and normalised as the
training data are: white on black, so give --invert for black on white.
"""

import argparse
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

from tfnode import trained
from tfnode.run_dir import RunError

SHOWN = 3


def main(arguments=None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.classify", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of a trained model")
    parser.add_argument("image", metavar="IMAGE", help="image file: PNG, JPEG, ...")
    parser.add_argument("--invert", action="store_true", help="the image is black on white")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    try:
        probabilities = classify(options.run, options.image, invert=options.invert)
    except (RunError, OSError) as error:
        if options.debug:
            raise
        print(f"classify: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for label in np.argsort(-probabilities, kind="stable")[:SHOWN]:
        print(f"{label}  {100 * probabilities[label]:6.2f} %")
    return 0


def classify(run, image, *, invert: bool = False) -> np.ndarray:
    """The probabilities that a model gives to the classes of an image.

    Args:
        run: Path of a run directory of a classifier of grey images.
        image: Path of an image file. Transparent parts count as white.
        invert: Whether the image is black on white.

    Returns:
        float32, `(classes,)`.

    Raises:
        RunError: If the run holds no such model, or the file no image.
    """
    path = trained.model_file(run)
    picture = _read(image)

    import keras

    from tfnode.data.dataset import normalize

    model = trained.load(path)
    shapes = [getattr(model, name, None) for name in ("input_shape", "output_shape")]
    if not _takes_grey_images(*shapes):
        raise RunError(
            f"Expected a classifier of grey images, (height, width, 1), in {path}. Received: a "
            f"model from {shapes[0]} to {shapes[1]}"
        )
    height, width = shapes[0][1:3]
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    if invert:
        pixels = 255 - pixels
    logits = model(normalize(pixels[np.newaxis, ..., np.newaxis]), training=False)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    if not np.isfinite(probabilities).all():
        raise RunError(f"The model in {path} gives NaN: did its training diverge?")
    return probabilities


def _read(path):
    """A PIL image of 8-bit grey.

    Raises:
        RunError: If there is none in the file.
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


def _from_wide(image):
    """Grey of 16 bits as grey of 8, which Pillow would cut off at 255."""
    if image.mode == "F":
        raise ValueError("pixels that are floats, whose range is not known")
    values = np.asarray(image, np.float64) * (255.0 / 65535.0)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _takes_grey_images(inputs, outputs):
    """Whether these are the shapes of a classifier of grey images."""
    image = isinstance(inputs, tuple) and len(inputs) == 4 and inputs[3] == 1
    return image and None not in inputs[1:] and isinstance(outputs, tuple) and len(outputs) == 2


if __name__ == "__main__":
    sys.exit(main())
