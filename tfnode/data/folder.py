"""Where the files of MNIST lie; imports no TensorFlow, so that this can be asked before it."""

import os
import pathlib

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


class DataError(ValueError):
    """Data that cannot be had or used; the message says what to do."""


def named(data_dir=None):
    """The folder of data that was named: `data_dir`, `$TFNODE_DATA_DIR`, or `None`."""
    return data_dir or os.environ.get("TFNODE_DATA_DIR")


def find(folder):
    """The files of MNIST in a folder.

    Args:
        folder: A folder with `mnist.npz` or the four IDX files, plain or gzipped.

    Returns:
        The path of `mnist.npz`, or a dict of the paths of the IDX files.

    Raises:
        DataError: If the folder does not exist or does not hold them.
    """
    folder = pathlib.Path(folder)
    try:
        if not folder.is_dir():
            raise DataError(
                f"The data folder does not exist. Received: {folder}. Name another one with "
                "--data_dir or $TFNODE_DATA_DIR, or neither to have MNIST downloaded."
            )
        if (folder / "mnist.npz").exists():
            return folder / "mnist.npz"
        paths = {}
        for name, file in IDX_FILES.items():
            # Some copies have a dot where the original has a dash.
            spellings = [file, file.replace("-idx", ".idx")]
            candidates = [folder / (s + end) for s in spellings for end in ("", ".gz")]
            paths[name] = next((p for p in candidates if p.exists()), None)
    except OSError as error:
        raise DataError(f"The data folder cannot be read: {error}. Name another one.") from error
    missing = [IDX_FILES[name] for name, path in paths.items() if path is None]
    if missing:
        raise DataError(
            f"Expected mnist.npz or the four IDX files {', '.join(IDX_FILES.values())} (or "
            f"with .gz) in {folder}. Missing: {', '.join(missing)}. Name another folder with "
            "--data_dir or $TFNODE_DATA_DIR, or neither to have MNIST downloaded."
        )
    return paths
