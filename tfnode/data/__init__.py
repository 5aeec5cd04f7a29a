"""Data sets, one a file."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from tfnode.data.folder import DataError
from tfnode.data.rows import series_from_rows

if TYPE_CHECKING:
    from tfnode.data.augmentation import Augmentation
    from tfnode.data.dataset import Dataset

# Each data set with the kind of its samples, which a model must take.
KINDS = {
    **dict.fromkeys(("auto", "mnist", "digits"), "images"),
    **{"spirals": "spirals"},
    **dict.fromkeys(("japanese_vowels", "basic_motions", "italy_power_demand"), "series"),
}
NAMES = tuple(KINDS)

__all__ = ["KINDS", "NAMES", "Augmentation", "DataError", "Dataset", "load", "series_from_rows"]

# TensorFlow is imported with these, so that commands can check a folder without it.
_CLASSES = {"Augmentation": "augmentation", "Dataset": "dataset"}


def load(name: str, data_dir: str | os.PathLike[str] | None = None, **options: Any) -> "Dataset":
    """Load a data set.

    Args:
        name: `"mnist"`, `"digits"`, or `"auto"`: MNIST where it can be had, otherwise
            digits; the result's `name` says which it is, and `source` why. Or time series:
            `"spirals"`, which are generated, and `"japanese_vowels"`, `"basic_motions"` and
            `"italy_power_demand"`, which were measured.
        data_dir: Folder of `mnist.npz`; see `tfnode.data.mnist.load`.
        **options: Of time series: see `tfnode.data.spirals.load`, and for the others
            `missing`, the rate of points that are dropped.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If the data set has no such option.
        DataError: If the data cannot be had, or files are not what they should be. `"auto"`
            does not pass over bad files, nor over a folder that was named and holds none.
    """
    from tfnode.data import digits, mnist

    if name not in NAMES:
        raise ValueError(f"A data set is one of {NAMES}. Received: name={name!r}")
    if KINDS[name] != "images":
        return importlib.import_module(f"tfnode.data.{name}").load(**options)
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


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(f"tfnode.data.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'tfnode.data' has no attribute {name!r}")
