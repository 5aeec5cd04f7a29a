"""MNIST, from files or by download, checked to the last bit."""

import contextlib
import gzip
import hashlib
import os
import pathlib
import socket
import tempfile
import zlib

import keras
import numpy as np

from tfnode.data.dataset import DataError, Dataset

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

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
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
    folder = data_dir or os.environ.get("TFNODE_DATA_DIR")
    if folder:
        arrays, source = _read_folder(pathlib.Path(folder))
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
        DataError: If the file is not MNIST.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = sorted(set(ARRAYS) - set(archive.files))
            if missing:
                raise DataError(
                    f"Expected the arrays {sorted(ARRAYS)} in {path}. Received: {archive.files}"
                )
            arrays = {name: archive[name] for name in ARRAYS}
    except DataError:
        raise
    # Damaged archives raise almost anything: zip, zlib and lzma errors, TypeError,
    # tokenize.TokenError from the header of an array, MemoryError for its size.
    except Exception as error:
        raise DataError(f"{path} is not a readable .npz file: {error}. {_REMEDY}") from error
    for name, array in arrays.items():
        check(array, name, path)
    return arrays


def read_idx(path):
    """The array of an IDX file of unsigned bytes, plain or gzipped.

    Raises:
        DataError: If the file is truncated, too long, or no such file.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. {_REMEDY}") from error
    # Two zero bytes, the type (8 is uint8), the rank, and the big-endian sizes.
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes. Received: it begins with "
            f"{data[:4].hex() or 'nothing'}. {_REMEDY}"
        )
    rank = data[3]
    if not 1 <= rank <= 4:
        raise DataError(f"Expected 1 to 4 axes in {path}. Received: {rank}. {_REMEDY}")
    header = 4 + 4 * rank
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    size = 1
    for length in shape:
        size *= length
    if len(data) != header + size:
        raise DataError(
            f"{path} should hold {header + size} bytes for its shape {shape}. "
            f"Received: {len(data)} bytes. {_REMEDY}"
        )
    try:
        return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
    except ValueError as error:  # Sizes beyond what an array can have, next to a zero.
        raise DataError(f"{path} has the impossible shape {shape}. {_REMEDY}") from error


def check(array, name, path):
    """Compares an array with MNIST's by shape, type and SHA-256.

    Raises:
        DataError: If it is another one.
    """
    shape, expected = ARRAYS[name]
    if not isinstance(array, np.ndarray):
        raise DataError(f"Expected an array {name} in {path}. Received: raw bytes. {_REMEDY}")
    if array.shape != shape or array.dtype != np.uint8:
        raise DataError(
            f"Expected {name} of shape {shape} and dtype uint8 in {path}. Received: shape "
            f"{array.shape}, dtype {array.dtype}. {_REMEDY}"
        )
    received = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    if received != expected:
        others = [n for n, (_, known) in ARRAYS.items() if known == received]
        found = f"the values of {others[0]}" if others else f"SHA-256 {received}"
        raise DataError(
            f"The values of {name} in {path} are not MNIST's. Expected: SHA-256 {expected}. "
            f"Received: {found}. {_REMEDY}"
        )


_REMEDY = "Replace the file, or remove it to have MNIST downloaded."


def _read_folder(folder):
    """The arrays from a folder, and what they were read from."""
    if not folder.is_dir():
        raise DataError(f"The data folder does not exist. Received: {folder}")
    if (folder / "mnist.npz").exists():
        return read_npz(folder / "mnist.npz"), "mnist.npz"
    paths = {}
    for name, file in IDX_FILES.items():
        # Some copies have a dot where the original has a dash.
        spellings = [file, file.replace("-idx", ".idx")]
        candidates = [folder / (s + end) for s in spellings for end in ("", ".gz")]
        paths[name] = next((p for p in candidates if p.exists()), None)
    missing = [IDX_FILES[name] for name, path in paths.items() if path is None]
    if missing:
        raise DataError(
            f"Expected mnist.npz or the four IDX files {', '.join(IDX_FILES.values())} (or "
            f"with .gz) in {folder}. Missing: {', '.join(missing)}. Name another folder with "
            "--data_dir or $TFNODE_DATA_DIR, or neither to have MNIST downloaded."
        )
    arrays = {name: read_idx(path) for name, path in paths.items()}
    for name, array in arrays.items():
        check(array, name, paths[name])
    return arrays, "MNIST's four IDX files"


def _keras_home():
    """Keras's own folder, in which it keeps its data sets."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras")


def _download(target):
    """Downloads into a folder beside the cache; only what was checked moves there."""
    before = socket.getdefaulttimeout()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
                path = keras.utils.get_file("mnist.npz", URL, cache_dir=folder, cache_subdir="")
            arrays = read_npz(path)
            os.replace(path, target)
            return arrays
    except DataError as error:
        raise Unavailable(f"The download from {URL} is not MNIST: {error}") from error
    # Keras raises a bare Exception where the address cannot be reached.
    except Exception as error:
        raise Unavailable(
            f"MNIST is not in {target} and cannot be downloaded: {str(error).strip()[:300]}. Put "
            "mnist.npz or the four IDX files into a folder and name it with --data_dir or "
            "$TFNODE_DATA_DIR."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
