"""Data sets, one a file."""

from tfnode.data import digits, mnist, spirals
from tfnode.data.augmentation import Augmentation
from tfnode.data.dataset import Dataset
from tfnode.data.folder import DataError

NAMES = ("auto", "mnist", "digits", "spirals")

__all__ = ["NAMES", "Augmentation", "DataError", "Dataset", "load"]


def load(name: str, data_dir: str | None = None, **options) -> Dataset:
    """Loads a data set.

    Args:
        name: `"mnist"`, `"digits"`, or `"auto"`: MNIST where it can be had, otherwise
            digits; the result's `name` says which it is, and `source` why. Or `"spirals"`,
            time series that are generated.
        data_dir: Folder of MNIST's files; see `tfnode.data.mnist.load`.
        **options: Of the spirals, see `tfnode.data.spirals.load`; the others have none.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If the data set has no such option.
        DataError: If the data cannot be had, or files are not what they should be. `"auto"`
            does not pass over bad files, nor over a folder that was named and holds none.
    """
    if name not in NAMES:
        raise ValueError(f"A data set is one of {NAMES}. Received: name={name!r}")
    if name == "spirals":
        return spirals.load(**options)
    if options:
        raise TypeError(f"The data set {name} has no options. Received: {options}")
    if name == "digits":
        return digits.load()
    try:
        return mnist.load(data_dir)
    except mnist.Unavailable as error:
        if name == "mnist":
            raise
        dataset = digits.load()
        return dataset._replace(source=f"{dataset.source}, in place of MNIST: {error}")
