"""MNIST, from a file or by download, checked to the last bit."""

import contextlib
import hashlib
import io
import math
import os
import pathlib
import socket
import zipfile

import keras
import numpy as np

from tfnode.data.dataset import Dataset
from tfnode.data.folder import FILE, DataError, find, named

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
# SHA-256 of the bytes of each array.
ARRAYS = {
    "x_train": (
        (60000, 28, 28),
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ),
    "y_train": ((60000,), "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
    "x_test": ((10000, 28, 28), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
    "y_test": ((10000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
}
DOWNLOAD_TIMEOUT_SECONDS = 20


class Unavailable(DataError):
    """MNIST that is in no place where it was looked for, and cannot be downloaded."""


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST: 60,000 training and 10,000 test images.

    The file is `data_dir/mnist.npz`, or `$TFNODE_DATA_DIR/mnist.npz` without `data_dir`. Without
    either it is that in Keras's cache, to which it is downloaded if it is not there.

    Args:
        data_dir: A folder with `mnist.npz`.

    Raises:
        Unavailable: If it is not in the cache and the download fails.
        DataError: If the folder holds no `mnist.npz`, or the file is not MNIST's.
    """
    folder = named(data_dir)
    arrays = read_npz(find(folder) if folder else _download())
    return Dataset(
        name="mnist",
        source=FILE,
        x_train=arrays["x_train"][..., np.newaxis],
        y_train=arrays["y_train"],
        x_test=arrays["x_test"][..., np.newaxis],
        y_test=arrays["y_test"],
    )


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of an `mnist.npz`, checked.

    Raises:
        DataError: If the file is not MNIST. A file that claims to hold more is not unpacked.
    """
    remedy = "Replace the file, or remove it to have MNIST downloaded."
    if not os.path.isfile(path):  # A pipe would block the reader.
        raise DataError(f"{path} cannot be read: there is no such file. {remedy}")
    try:
        largest = sum(math.prod(shape) for shape, _ in ARRAYS.values()) + 2**16
        with zipfile.ZipFile(path) as archive:
            claimed = sum(info.file_size for info in archive.infolist())
        if claimed > largest:
            raise DataError(f"expected at most {largest:,} bytes within it, not {claimed:,}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
        for name, array in arrays.items():
            _check(name, array)
    # Damaged archives raise almost anything: zip and zlib errors, KeyError, TypeError.
    except Exception as error:
        raise DataError(f"{path} is not MNIST's mnist.npz: {error}. {remedy}") from error
    return arrays


def _check(name: str, array: np.ndarray) -> None:
    shape, expected = ARRAYS[name]
    if array.shape != shape or array.dtype != np.uint8:
        raise DataError(
            f"expected {name} of shape {shape} and dtype uint8, not of shape {array.shape} and "
            f"dtype {array.dtype}"
        )
    received = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    if received != expected:
        raise DataError(f"expected {name} with the SHA-256 {expected}, not {received}")


def _download() -> pathlib.Path:
    """Return the path of the file in Keras's cache."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return pathlib.Path(keras.utils.get_file(FILE, URL, file_hash=SHA256))
    # Keras raises Exception itself where the address cannot be reached, and passes on the errors
    # of its connection, so there is nothing narrower to name.
    except Exception as error:
        raise Unavailable(
            f"MNIST cannot be downloaded: {str(error).strip()[:300]}. Put {FILE} into a folder "
            "and name that with data_dir or $TFNODE_DATA_DIR."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
