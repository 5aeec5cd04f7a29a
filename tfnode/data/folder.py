"""The folder of MNIST's file. Nothing here imports TensorFlow, so it can be checked at once."""

import os
import pathlib

FILE = "mnist.npz"


class DataError(ValueError):
    """Data that cannot be had or used; the message says what to do."""


def check(data_dir: str | os.PathLike[str] | None, dataset: str) -> None:
    """Raise the error of `find` if a data set would be read from a folder that was named."""
    folder = named(data_dir)
    if folder and dataset in ("auto", "mnist"):
        find(folder)


def named(data_dir: str | os.PathLike[str] | None = None) -> str | os.PathLike[str] | None:
    """Return the folder that was named: `data_dir`, `$TFNODE_DATA_DIR`, or `None`."""
    return data_dir or os.environ.get("TFNODE_DATA_DIR")


def find(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Return the path of `mnist.npz` in a folder.

    Raises:
        DataError: If the folder does not exist or does not hold the file.
    """
    folder = pathlib.Path(folder)
    remedy = (
        "Name another folder with data_dir or $TFNODE_DATA_DIR, or neither to have MNIST "
        "downloaded."
    )
    try:
        if not folder.is_dir():
            raise DataError(f"The data folder does not exist. Received: {folder}. {remedy}")
        if (folder / FILE).exists():
            return folder / FILE
        old = sorted(path.name for path in folder.glob("*ubyte*"))
    except OSError as error:
        raise DataError(f"The data folder cannot be read: {error}. {remedy}") from error
    if old:
        raise DataError(
            f"Expected {FILE} in {folder}. Received: MNIST's IDX files, such as {old[0]}, "
            f"which are no longer read. Put {FILE} beside them. {remedy}"
        )
    raise DataError(f"Expected {FILE} in {folder}. Received: no such file. {remedy}")
