"""MNIST, from files or by download, checked to the last bit."""

import contextlib
import gzip
import hashlib
import math
import os
import pathlib
import socket
import tempfile
import zipfile
import zlib

import keras
import numpy as np

from tfnode.data.dataset import Dataset
from tfnode.data.folder import DataError, find, named

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"

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
    """MNIST is in no place where it was looked for, and cannot be downloaded."""


def load(data_dir=None) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images.

    Looked for in `data_dir`; where that is not given in `$TFNODE_DATA_DIR`; where that is
    not set in Keras's cache; and then downloaded into the cache.

    Args:
        data_dir: A folder with `mnist.npz` or the four IDX files, plain or gzipped.

    Raises:
        Unavailable: If it is not in the cache and the download fails.
        DataError: If the folder holds no MNIST, or files that are not MNIST's.
    """
    folder = named(data_dir)
    if folder:
        arrays, source = _read_folder(folder)
    else:
        cached = _keras_home() / "datasets" / "mnist.npz"
        arrays = read_npz(cached) if cached.exists() else _download(cached)
        source = cached.name
    return Dataset(
        name="mnist",
        source=str(source),
        x_train=arrays["x_train"][..., np.newaxis],
        y_train=arrays["y_train"],
        x_test=arrays["x_test"][..., np.newaxis],
        y_test=arrays["y_test"],
    )


def read_npz(path):
    """The arrays of an `mnist.npz`, checked.

    Raises:
        DataError: If the file is not MNIST. Before memory is taken for what it claims to hold.
    """
    _refuse_other_than_files(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if any(f"{name}.npy" not in members for name in ARRAYS):
                raise DataError(
                    f"Expected the arrays {sorted(ARRAYS)} in {path}. Received: {members[:20]}. "
                    f"{_REMEDY}"
                )
            arrays = {name: _read_npy(archive, name, path) for name in ARRAYS}
    except DataError:
        raise
    # Damaged archives raise almost anything: zip and zlib errors, KeyError, TypeError,
    # NotImplementedError, tokenize.TokenError from the header of an array.
    except Exception as error:
        raise DataError(f"{path} is not a readable .npz file: {error}. {_REMEDY}") from error
    for name, array in arrays.items():
        check(array, name, path)
    return arrays


def _read_npy(archive, name, path):
    """One array of an `.npz`, whose size is known to be right before it is read."""
    info = archive.getinfo(f"{name}.npy")
    # Those of NumPy. Others make any amount of memory out of a few bytes.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"Expected {name} in {path} stored or deflated. Received: compression method "
            f"{info.compress_type}. {_REMEDY}"
        )
    # Room for other dtypes, which are refused by name below.
    largest = 8 * math.prod(ARRAYS[name][0]) + 2**16
    if info.file_size > largest:
        raise DataError(
            f"Expected at most {largest:,} bytes for {name} in {path}. Received: "
            f"{info.file_size:,} bytes. {_REMEDY}"
        )
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with archive.open(info) as file:
        shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
    _check_kind(shape, dtype, name, path)
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_idx(path):
    """The array of an IDX file of unsigned bytes, plain or gzipped.

    Raises:
        DataError: If the file is truncated, too long, larger than the largest of MNIST's, or
            no such file.
    """
    path = pathlib.Path(path)
    _refuse_other_than_files(path)
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                return _read_idx(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. {_REMEDY}") from error


def _read_idx(file, path):
    # Two zero bytes, the type (8 is uint8), the rank, and the big-endian sizes.
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes. Received: it begins with "
            f"{magic.hex() or 'nothing'}. {_REMEDY}"
        )
    rank = magic[3]
    if not 1 <= rank <= 4:
        raise DataError(f"Expected 1 to 4 axes in {path}. Received: {rank}. {_REMEDY}")
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(
            f"{path} should have a header of {4 + 4 * rank} bytes. Received: {4 + len(sizes)} "
            f"bytes. {_REMEDY}"
        )
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, 4 * rank, 4))
    size = math.prod(shape)
    largest = max(math.prod(expected) for expected, _ in ARRAYS.values())
    if size > largest:
        raise DataError(
            f"Expected at most {largest:,} values in {path}. Received: the shape {shape}. {_REMEDY}"
        )
    # No more than that, whatever a compressed file would make of the rest.
    values = file.read(size + 1)
    if len(values) != size:
        received = "more" if len(values) > size else f"{len(values):,} bytes"
        raise DataError(
            f"{path} should hold {size:,} bytes after its header, for its shape {shape}. "
            f"Received: {received}. {_REMEDY}"
        )
    try:
        return np.frombuffer(values, np.uint8).reshape(shape)
    except ValueError as error:  # Sizes beyond what an array can have, next to a zero.
        raise DataError(f"{path} has the impossible shape {shape}. {_REMEDY}") from error


def check(array, name, path):
    """Compares an array with MNIST's by shape, type and SHA-256.

    Raises:
        DataError: If it is another one.
    """
    _check_kind(array.shape, array.dtype, name, path)
    expected = ARRAYS[name][1]
    received = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    if received != expected:
        others = [n for n, (_, known) in ARRAYS.items() if known == received]
        found = f"the values of {others[0]}" if others else f"SHA-256 {received}"
        raise DataError(
            f"The values of {name} in {path} are not MNIST's. Expected: SHA-256 {expected}. "
            f"Received: {found}. {_REMEDY}"
        )


def _check_kind(shape, dtype, name, path):
    expected = ARRAYS[name][0]
    if shape != expected or dtype != np.uint8:
        raise DataError(
            f"Expected {name} of shape {expected} and dtype uint8 in {path}. Received: shape "
            f"{shape}, dtype {dtype}. {_REMEDY}"
        )


_REMEDY = "Replace the file, or remove it to have MNIST downloaded."


def _refuse_other_than_files(path):
    """A pipe or a device would be waited for, or read, for ever."""
    if not os.path.isfile(path):
        raise DataError(f"{path} cannot be read: there is no such file. {_REMEDY}")


def _read_folder(folder):
    """The arrays from a folder, and what they were read from."""
    found = find(folder)
    if isinstance(found, pathlib.Path):
        return read_npz(found), found.name
    arrays = {name: read_idx(path) for name, path in found.items()}
    for name, array in arrays.items():
        check(array, name, found[name])
    return arrays, "MNIST's four IDX files"


def _keras_home():
    """Keras's own folder, in which it keeps its data sets."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras")


def _download(target):
    """Downloads into a folder beside the cache; only what was checked moves there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            path = _fetch(folder, target)
            try:
                arrays = read_npz(path)
            except DataError as error:
                raise Unavailable(f"The download from {URL} is not MNIST: {error}") from error
            os.replace(path, target)
            return arrays
    except OSError as error:
        raise _unavailable(target, error) from error


def _fetch(folder, target):
    """Path of the downloaded file."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            return keras.utils.get_file("mnist.npz", URL, cache_dir=folder, cache_subdir="")
    # Keras raises Exception itself where the address cannot be reached, and passes on what
    # its connection raises, so there is nothing narrower to name.
    except Exception as error:
        raise _unavailable(target, error) from error
    finally:
        socket.setdefaulttimeout(before)


def _unavailable(target, error):
    return Unavailable(
        f"MNIST is not in {target} and cannot be downloaded: {str(error).strip()[:300]}. Put "
        "mnist.npz or the four IDX files into a folder and name it with --data_dir or "
        "$TFNODE_DATA_DIR."
    )
