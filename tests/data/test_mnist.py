"""MNIST's loader: what it reads back right, and what it refuses."""

import hashlib
import io
import os
import tracemalloc
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest

from tfnode import data
from tfnode.data import DataError, mnist


def _tiny_arrays():
    """Arrays that stand for MNIST in the tests: same rank and type, few samples."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (6, 28, 28), np.uint8),
        "y_train": rng.integers(0, 10, (6,), np.uint8),
        "x_test": rng.integers(0, 256, (4, 28, 28), np.uint8),
        "y_test": rng.integers(0, 10, (4,), np.uint8),
    }


TINY = _tiny_arrays()
CHECKSUMS = {n: (a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in TINY.items()}


def _npz_bytes(arrays, save=np.savez):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The tiny arrays count as MNIST; no folder is named."""
    monkeypatch.setattr(mnist, "ARRAYS", CHECKSUMS)
    monkeypatch.delenv("TFNODE_DATA_DIR", raising=False)

    def refuse(*args, **kwargs):
        raise AssertionError("a download where there should be none")

    monkeypatch.setattr(keras.utils, "get_file", refuse)
    return TINY


def _assert_tiny(dataset):
    assert dataset.name == "mnist"
    for name, array in TINY.items():
        received = getattr(dataset, name)
        expected = array[..., np.newaxis] if name.startswith("x") else array
        assert received.dtype == np.uint8
        np.testing.assert_array_equal(received, expected)


# --- .npz files -----------------------------------------------------------------------


def _npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _zip_bytes(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD_NPZ = _npz_bytes(TINY)

BAD_NPZ = {
    "empty": b"",
    "truncated": GOOD_NPZ[:-200],
    "zip of text": _zip_bytes({f"{n}.npy": b"some text" for n in TINY}),
    "no array": _zip_bytes({}),
    "lzma noise": _zip_bytes(
        {f"{n}.npy": _npy_bytes(a) for n, a in TINY.items()}, zipfile.ZIP_LZMA
    ).replace(b"\x5d\x00\x00", b"\xff\xff\xff"),
}


@pytest.mark.parametrize("content", BAD_NPZ.values(), ids=BAD_NPZ.keys())
def test_npz_refuses(tiny, tmp_path, content):
    path = tmp_path / "mnist.npz"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        data.load("mnist", tmp_path)
    assert str(path) in str(error.value)


def _changed(**arrays):
    return {**TINY, **arrays}


WRONG_ARRAYS = {
    "missing array": ({k: v for k, v in TINY.items() if k != "y_test"}, "y_test"),
    "wrong shape": (_changed(x_train=TINY["x_train"][:5]), "shape"),
    "wrong dtype": (_changed(x_train=TINY["x_train"].astype(np.int64)), "int64"),
    "one value": (_changed(x_train=TINY["x_train"] ^ np.eye(28, dtype=np.uint8)), "x_train"),
    "labels in another order": (_changed(y_train=TINY["y_train"][::-1]), "y_train"),
}


@pytest.mark.parametrize("arrays, hint", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS.keys())
def test_npz_refuses_other_arrays(tiny, tmp_path, arrays, hint):
    path = tmp_path / "mnist.npz"
    path.write_bytes(_npz_bytes(arrays))
    with pytest.raises(DataError) as error:
        data.load("mnist", tmp_path)
    assert str(path) in str(error.value)
    assert hint in str(error.value)


def test_pickled_objects_are_not_run(tiny, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    array = np.empty(4, object)
    array[:] = [Evil()] * 4
    (tmp_path / "mnist.npz").write_bytes(_npz_bytes(_changed(y_test=array)))
    with pytest.raises(DataError):
        data.load("mnist", tmp_path)
    assert not (tmp_path / "run").exists()


def test_npz_bomb_is_refused_before_it_is_unpacked(tiny, tmp_path):
    members = {f"{n}.npy": _npy_bytes(a) for n, a in TINY.items()}
    members["x_train.npy"] = _npy_bytes(np.zeros(2**26, np.uint8))
    path = tmp_path / "mnist.npz"
    path.write_bytes(_zip_bytes(members, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected at most"):
            data.load("mnist", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


# --- Where it is looked for -----------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_from_npz(tiny, tmp_path, save):
    (tmp_path / "mnist.npz").write_bytes(_npz_bytes(tiny, save))
    dataset = data.load("mnist", tmp_path)
    _assert_tiny(dataset)
    assert dataset.source == "mnist.npz"


def _folder(path):
    path.mkdir()
    (path / "mnist.npz").write_bytes(GOOD_NPZ)
    return path


def test_from_environment(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TFNODE_DATA_DIR", str(_folder(tmp_path / "files")))
    _assert_tiny(data.load("auto"))


def test_argument_comes_before_environment(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TFNODE_DATA_DIR", str(tmp_path / "none"))
    _assert_tiny(data.load("mnist", _folder(tmp_path / "files")))
    with pytest.raises(DataError, match="does not exist"):
        data.load("mnist")


def test_a_pipe_is_not_waited_for(tiny, tmp_path):
    os.mkfifo(tmp_path / "mnist.npz")
    with pytest.raises(DataError, match="cannot be read"):
        data.load("mnist", tmp_path)


def test_a_folder_of_idx_files_says_what_is_needed(tiny, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(DataError, match=r"Put mnist\.npz beside them"):
        data.load("auto", tmp_path)


def test_missing_folder(tiny, tmp_path):
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match="does not exist") as error:
            data.load(name, tmp_path / "none")
        assert str(tmp_path / "none") in str(error.value)


def test_empty_folder(tiny, tmp_path):
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match="no such file"):
            data.load(name, tmp_path)


def test_auto_does_not_pass_over_a_bad_file(tiny, tmp_path, monkeypatch):
    (tmp_path / "mnist.npz").write_bytes(GOOD_NPZ[:-50])
    with pytest.raises(DataError) as error:
        data.load("auto", tmp_path)
    assert not isinstance(error.value, mnist.Unavailable)
    monkeypatch.setenv("TFNODE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError):
        data.load("auto")


def test_unknown_name():
    with pytest.raises(ValueError, match=r"mnist.*digits") as error:
        data.load("fashion")
    assert "'fashion'" in str(error.value)


# --- The download ---------------------------------------------------------------------


def test_download_is_encrypted_and_checked():
    assert mnist.URL.startswith("https://")
    assert all(len(bytes.fromhex(x)) == 32 for _, x in mnist.ARRAYS.values())
    assert len(bytes.fromhex(mnist.SHA256)) == 32


def test_download(tiny, tmp_path, monkeypatch):
    def get_file(fname, origin, file_hash):
        assert (fname, origin, file_hash) == ("mnist.npz", mnist.URL, mnist.SHA256)
        print("Downloading")
        return str(_folder(tmp_path / "cache") / fname)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    _assert_tiny(data.load("auto"))


@pytest.mark.parametrize(
    "error", [Exception("URL fetch failure: no such host"), OSError(28, "No space left on device")]
)
def test_download_fails(tiny, tmp_path, monkeypatch, error):
    monkeypatch.setattr(keras.utils, "get_file", mock.Mock(side_effect=error))
    with pytest.raises(mnist.Unavailable, match=str(error.args[-1])):
        data.load("mnist")
    dataset = data.load("auto")
    assert dataset.name == "digits"
    assert str(error.args[-1]) in dataset.source


@pytest.mark.skipif(not os.environ.get("TFNODE_DATA_DIR"), reason="TFNODE_DATA_DIR is not set")
def test_the_real_files():
    dataset = data.load("mnist")
    assert dataset.x_train.shape == (60000, 28, 28, 1)
    assert dataset.x_test.shape == (10000, 28, 28, 1)
    assert dataset.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(dataset.y_test).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    # The constants of the normalisation are this training set's.
    assert abs(dataset.x_train.mean() / 255 - 0.1307) < 1e-4
    assert abs(dataset.x_train.std() / 255 - 0.3081) < 1e-4
