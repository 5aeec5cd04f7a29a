"""The trained model of a run directory, for the commands that use one.

Imports TensorFlow only when a model is loaded.
"""

import pathlib

from tfnode.archive import check_model
from tfnode.run_dir import BEST, MODEL, RunError


def model_file(run) -> pathlib.Path:
    """The file of the best model of a run by validation, else of the final one.

    Raises:
        RunError: If `run` is no folder, holds neither, or the file is cut off or has members
            that Keras does not write, such as paths that lead out.
    """
    folder = pathlib.Path(run)
    if not folder.is_dir():
        raise RunError(f"Expected a run directory. Received: {run}")
    path = next((p for p in (folder / BEST, folder / MODEL) if p.is_file()), None)
    if path is None:
        raise RunError(f"Expected {BEST} or {MODEL} in {run}: train a model first.")
    check_model(path)
    return path


def load(path):
    """The `keras.Model` in a file that `model_file` found, for inference.

    Raises:
        RunError: If Keras cannot load it.
    """
    import keras

    from tfnode import layers  # noqa: F401  Registers the layers.

    try:
        return keras.models.load_model(path, compile=False)
    # Damaged files raise almost anything: errors of zip, JSON and HDF5, KeyError, TypeError.
    except Exception as error:
        raise RunError(f"Expected a Keras model at {path}. Received: {brief(error)}") from error


def brief(error) -> str:
    """The message of an error of a library, in one line of bounded length."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:300]}{'...' if len(message) > 300 else ''}"
