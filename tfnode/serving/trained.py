"""The trained model of a run directory. TensorFlow is loaded with the model, not before."""

import os
import pathlib
import zipfile
from typing import TYPE_CHECKING

from tfnode.runs.contents import BEST, MODEL
from tfnode.runs.errors import RunError
from tfnode.runs.record import FROM_PIXELS

if TYPE_CHECKING:
    import keras

MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


def model_file(run: str | os.PathLike[str]) -> pathlib.Path:
    """Return the file of the best model of a run by validation, else of the final one.

    Raises:
        RunError: If `run` is no folder, holds no model, or the file is cut off.
    """
    folder = pathlib.Path(run)
    if not folder.is_dir():
        raise RunError(f"Expected a run directory. Received: {run}")
    path = next((p for p in (folder / BEST, folder / MODEL) if p.is_file()), None)
    if path is None:
        raise RunError(f"Expected {BEST} or {MODEL} in {run}: train a model first.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RunError(f"Expected a Keras model at {path}. Received: {error}") from error
    if not set(MEMBERS) <= set(names):
        raise RunError(
            f"Expected {', '.join(MEMBERS)} in the Keras model {path}. Received: {names[:20]}"
        )
    return path


def load(path: str | os.PathLike[str]) -> "keras.Model":
    """Return the model in a file of `model_file`, for inference.

    Keras's safe mode is on, so that a hostile file runs nothing.

    Raises:
        RunError: If Keras cannot load the file.
    """
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    # Damaged files raise almost anything: errors of zip, JSON and HDF5, KeyError, TypeError.
    except Exception as error:
        raise RunError(f"Expected a Keras model at {path}. Received: {brief(error)}") from error


def takes_pixels(model: "keras.Model") -> bool:
    """Return whether a model takes images of 0 to 255; older ones take normalised images."""
    return any(layer.name == FROM_PIXELS for layer in model.layers)


def brief(error: BaseException) -> str:
    """Return the message of an error of a library in one line of bounded length."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:300]}{'...' if len(message) > 300 else ''}"
