"""The data sets in the package aeon, read from its files, without importing it.

Importing aeon compiles functions and takes seconds. Its files are text that ten lines read.
"""

import hashlib
import importlib.util
import pathlib

import numpy as np

from tfnode.data.folder import DataError

Part = tuple[list[np.ndarray], list[int]]


def read(name: str, sha256: tuple[str, str]) -> tuple[Part, Part]:
    """Return the training and the test part of a data set.

    Args:
        name: The name in the archive of time series, `"BasicMotions"`.
        sha256: Those of the file for training and the one for testing.

    Returns:
        For each part the series, float64 `(points, channels)`, and their classes from 0.

    Raises:
        DataError: If aeon is not installed, or has other data.
    """
    found = importlib.util.find_spec("aeon")
    if found is None or found.origin is None:
        raise DataError(
            f"Expected the package aeon, which has the data set {name}. Received: no such "
            "package. Install it with `pip install 'tfnode[series]'`."
        )
    folder = pathlib.Path(found.origin).parent / "datasets" / "data" / name
    train, test = (
        _part(folder / f"{name}_{part}.ts", digest)
        for part, digest in zip(("TRAIN", "TEST"), sha256)
    )
    return train, test


def _part(path: pathlib.Path, sha256: str) -> Part:
    content = path.read_bytes() if path.is_file() else b""
    received = hashlib.sha256(content).hexdigest()
    if received != sha256:
        raise DataError(
            f"Expected {path} with the SHA-256 {sha256}, as in aeon 1.6. Received: "
            f"{received if content else 'no such file'}"
        )
    header, _, body = content.decode().partition("@data")
    names = next(x for x in header.splitlines() if x.startswith("@classLabel")).split()[2:]
    series, classes = [], []
    for line in body.split():
        *channels, label = line.split(":")
        series.append(np.array([np.array(c.split(","), float) for c in channels]).T)
        classes.append(names.index(label))
    return series, classes
