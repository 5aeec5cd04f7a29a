"""Data sets, one a file."""

from tfnode.data import digits, mnist
from tfnode.data.augmentation import Augmentation
from tfnode.data.dataset import Dataset
from tfnode.data.folder import DataError

NAMES = ("auto", "mnist", "digits")

__all__ = ["NAMES", "Augmentation", "DataError", "Dataset", "load"]


def load(name: str, data_dir: str | None = None) -> Dataset:
    """Loads a data set.

    Args:
        name: `"mnist"`, `"digits"`, or `"auto"`: MNIST where it can be had, otherwise
            digits. The result's `name` says which it is, and `source` why.
        data_dir: Folder of MNIST's files; see `tfnode.data.mnist.load`.

    Raises:
        ValueError: If the name is unknown.
        DataError: If the data cannot be had, or files are not what they should be. `"auto"`
            does not pass over bad files, nor over a folder that was named and holds none.
    """
    if name not in NAMES:
        raise ValueError(f"A data set is one of {NAMES}. Received: name={name!r}")
    if name == "digits":
        return digits.load()
    try:
        return mnist.load(data_dir)
    except mnist.Unavailable as error:
        if name == "mnist":
            raise
        dataset = digits.load()
        return dataset._replace(source=f"{dataset.source}, in place of MNIST: {error}")
