"""MNIST's loader: what it reads back right, and what it refuses."""

import gzip
import hashlib
import io
import os
import pathlib
import struct
import tracemalloc
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfnode import data
from tfnode.data import DataError, mnist
from tfnode.data.folder import IDX_FILES

FUZZ = settings(max_examples=150, deadline=None)


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


def _idx_bytes(array):
    sizes = b"".join(struct.pack(">I", n) for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _npz_bytes(arrays, save=np.savez):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def _write_idx_folder(folder, arrays=TINY, zipped=False, dotted=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in IDX_FILES.items():
        content = _idx_bytes(arrays[name])
        file = file.replace("-idx", ".idx") if dotted else file
        path = folder / (f"{file}.gz" if zipped else file)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The tiny arrays count as MNIST; no folder is named and the cache is empty."""
    monkeypatch.setattr(mnist, "ARRAYS", CHECKSUMS)
    monkeypatch.delenv("TFNODE_DATA_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

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


# --- IDX files ------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0,), (1, 1, 1, 1)])
def test_idx_reads_back(tmp_path, shape, zipped):
    array = np.arange(np.prod(shape, dtype=int), dtype=np.uint8).reshape(shape)
    content = _idx_bytes(array)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if zipped else content)
    received = mnist.read_idx(path)
    assert received.dtype == np.uint8
    assert received.shape == shape
    np.testing.assert_array_equal(received, array)


GOOD_IDX = _idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))

BAD_IDX = {
    "empty": b"",
    "header cut": GOOD_IDX[:7],
    "only magic": GOOD_IDX[:4],
    "truncated": GOOD_IDX[:-1],
    "too long": GOOD_IDX + b"\0",
    "bad magic": b"\1" + GOOD_IDX[1:],
    "floats": bytes([0, 0, 13, 1, 0, 0, 0, 1]) + b"\0" * 4,
    "html": b"<html><body>404</body></html>",
    "gzip cut": gzip.compress(GOOD_IDX)[:-9],
    "gzip of nothing": gzip.compress(b""),
    "gzip only magic": b"\x1f\x8b",
    "gzip noise": b"\x1f\x8b\x08\0\0\0\0\0\0\0" + bytes(range(60)),
    "gzip checksum": gzip.compress(GOOD_IDX)[:-8] + b"\0" * 8,
    "gzip twice": gzip.compress(gzip.compress(GOOD_IDX)),
    "huge": bytes([0, 0, 8, 3]) + b"\xff" * 12,
    "larger than MNIST": bytes([0, 0, 8, 2, 0, 1, 0, 0, 0, 0, 4, 0]),
    "rank 255, empty": bytes([0, 0, 8, 255]) + b"\0" * (4 * 255),
    "sizes that overflow, empty": bytes([0, 0, 8, 4]) + b"\0" * 4 + b"\xff" * 12,
}


@pytest.mark.parametrize("content", BAD_IDX.values(), ids=BAD_IDX.keys())
def test_idx_refuses(tmp_path, content):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        mnist.read_idx(path)
    assert str(path) in str(error.value)


def test_idx_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        for read in (mnist.read_idx, mnist.read_npz):
            with pytest.raises(DataError, match="cannot be read"):
                read(path)


@pytest.mark.parametrize("name", ["mnist.npz", IDX_FILES["x_train"]])
def test_a_pipe_is_not_waited_for(tiny, tmp_path, name):
    _write_idx_folder(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        data.load("mnist", tmp_path)


def test_idx_bomb_is_not_unpacked(tmp_path):
    """A thousandth of its size on disk; what is beyond the header's sizes is never made."""
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(GOOD_IDX + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more"):
            mnist.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@FUZZ
@given(content=st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(b"\0\0\x08".__add__)))
def test_idx_random_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random-idx"
    path.write_bytes(content)
    try:
        array = mnist.read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert _idx_bytes(array) == content


@st.composite
def _damaged(draw, content):
    """`content` cut short, or with some bytes changed."""
    damaged = bytearray(content)
    if draw(st.booleans()):
        del damaged[draw(st.integers(0, len(damaged))) :]
    for _ in range(draw(st.integers(0, 3))):
        if damaged:
            place = draw(st.integers(0, len(damaged) - 1))
            damaged[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(damaged)


@FUZZ
@given(content=st.sampled_from([GOOD_IDX, gzip.compress(GOOD_IDX, mtime=0)]).flatmap(_damaged))
def test_idx_damaged(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged-idx"
    path.write_bytes(content)
    try:
        array = mnist.read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        # Whatever is read has as many values as the original.
        assert array.size == 6


# --- .npz files -----------------------------------------------------------------------


def test_npz_reads_back(tiny, tmp_path):
    for save in (np.savez, np.savez_compressed):
        path = tmp_path / "file.npz"
        path.write_bytes(_npz_bytes({**tiny, "more": np.zeros(2)}, save))
        received = mnist.read_npz(path)
        assert set(received) == set(tiny)
        for name, array in tiny.items():
            np.testing.assert_array_equal(received[name], array)


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


def _with_header(header):
    """An .npz whose first array has this text for a header."""
    text = header.encode()
    members = {f"{n}.npy": _npy_bytes(a) for n, a in TINY.items()}
    magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text))
    members["x_train.npy"] = magic + text + TINY["x_train"].tobytes()
    return _zip_bytes(members)


GOOD_NPZ = _npz_bytes(TINY)

BAD_NPZ = {
    "empty": b"",
    "html": b"<html><body>404</body></html>",
    "truncated": GOOD_NPZ[:-200],
    "half": GOOD_NPZ[: len(GOOD_NPZ) // 2],
    "one array alone": _npy_bytes(TINY["x_train"]),
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "zip of text": _zip_bytes({f"{n}.npy": b"some text" for n in TINY}),
    "no array": _zip_bytes({}),
    "header is no literal": _with_header("{'descr': open('x'), 'shape': (1,)}\n"),
    "header does not end": _with_header("{'descr': '|u1', ('fortran_order"),
    "header of a huge shape": _with_header(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1152921504606846975,)}\n"
    ),
    "header of a shape beyond 64 bits": _with_header(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999,)}\n"
    ),
    "header of a negative shape": _with_header(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 28, 28)}\n"
    ),
    "header of an unknown type": _with_header(
        "{'descr': '|zz', 'fortran_order': False, 'shape': (6, 28, 28)}\n"
    ),
    "header of an odd type": _with_header(
        "{'descr': [()], 'fortran_order': False, 'shape': (6, 28, 28)}\n"
    ),
    "header nested": _with_header("(" * 5000 + ")" * 5000),
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
    "flat images": (_changed(x_train=TINY["x_train"].reshape(6, 784)), "shape"),
    "wrong dtype": (_changed(x_train=TINY["x_train"].astype(np.int64)), "int64"),
    "signed bytes": (_changed(x_train=TINY["x_train"].view(np.int8)), "int8"),
    "floats": (_changed(x_test=TINY["x_test"] / np.float32(255)), "float32"),
    "one value": (_changed(x_train=TINY["x_train"] ^ np.eye(28, dtype=np.uint8)), "x_train"),
    "labels in another order": (_changed(y_train=TINY["y_train"][::-1]), "y_train"),
    "train and test swapped": (
        _changed(
            x_train=TINY["x_test"],
            y_train=TINY["y_test"],
            x_test=TINY["x_train"],
            y_test=TINY["y_train"],
        ),
        "shape",
    ),
    "pickled objects": (_changed(y_test=np.array([1, "a", None, 2], object)), "object"),
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


BOMBS = {
    "a large member": {"x_train.npy": _npy_bytes(np.zeros(2**26, np.uint8))},
    "a long header": {
        "x_train.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**26) + bytes(2**26)
    },
}


@pytest.mark.parametrize("member", BOMBS.values(), ids=BOMBS.keys())
def test_npz_bomb_is_refused_before_it_is_unpacked(tiny, tmp_path, member):
    members = {f"{n}.npy": _npy_bytes(a) for n, a in TINY.items()} | member
    path = tmp_path / "mnist.npz"
    path.write_bytes(_zip_bytes(members, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="Expected at most"):
            data.load("mnist", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_npz_of_a_declared_shape_is_refused_before_the_array_is_made(tiny, tmp_path):
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904,)}\n"
    path = tmp_path / "mnist.npz"
    path.write_bytes(_with_header(header))
    with (
        mock.patch.object(np.lib.format, "read_array", side_effect=AssertionError),
        pytest.raises(DataError, match="4611686018427387904"),
    ):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_of_other_compressions_is_refused(tiny, tmp_path, method):
    members = {f"{n}.npy": _npy_bytes(a) for n, a in TINY.items()}
    (tmp_path / "mnist.npz").write_bytes(_zip_bytes(members, method))
    with pytest.raises(DataError, match="stored or deflated"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["../y_test.npy", "{folder}/y_test.npy", "..\\y_test.npy"])
def test_npz_with_paths_writes_nothing(tiny, tmp_path, name):
    name = name.format(folder=tmp_path)
    members = {f"{n}.npy": _npy_bytes(a) for n, a in TINY.items()}
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "mnist.npz"
    path.write_bytes(_zip_bytes({**members, name: b"written"}))
    _assert_tiny(data.load("mnist", tmp_path / "in"))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "mnist.npz"]
    del members["y_test.npy"]
    path.write_bytes(_zip_bytes({**members, name: _npy_bytes(TINY["y_test"])}))
    with pytest.raises(DataError, match="y_test"):
        data.load("mnist", tmp_path / "in")


def _check_read_or_refused(path, content):
    """Reads an .npz: the tiny arrays or a `DataError`, nothing else."""
    path.write_bytes(content)
    with mock.patch.object(mnist, "ARRAYS", CHECKSUMS):
        try:
            arrays = mnist.read_npz(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            for name, array in TINY.items():
                np.testing.assert_array_equal(arrays[name], array)


@FUZZ
@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(b"PK\3\4".__add__)))
def test_npz_random_bytes(tmp_path_factory, content):
    _check_read_or_refused(tmp_path_factory.getbasetemp() / "random.npz", content)


@FUZZ
@given(content=st.sampled_from([GOOD_NPZ, _npz_bytes(TINY, np.savez_compressed)]).flatmap(_damaged))
def test_npz_damaged(tmp_path_factory, content):
    _check_read_or_refused(tmp_path_factory.getbasetemp() / "damaged.npz", content)


def _directory_of_zip():
    """Where the zip's own bookkeeping lies, which is where damage is most telling."""
    return GOOD_NPZ.index(b"PK\1\2")


@FUZZ
@given(
    place=st.integers(_directory_of_zip(), len(GOOD_NPZ) - 1)
    | st.integers(0, 200),  # the first entry and its .npy header
    value=st.integers(0, 255),
)
def test_npz_damaged_headers(tmp_path_factory, place, value):
    content = bytearray(GOOD_NPZ)
    content[place] = value
    _check_read_or_refused(tmp_path_factory.getbasetemp() / "headers.npz", bytes(content))


# --- Where it is looked for -----------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_from_npz(tiny, tmp_path, save):
    (tmp_path / "mnist.npz").write_bytes(_npz_bytes(tiny, save))
    dataset = data.load("mnist", tmp_path)
    _assert_tiny(dataset)
    assert dataset.source == "mnist.npz"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_from_idx(tiny, tmp_path, zipped, dotted):
    _write_idx_folder(tmp_path, zipped=zipped, dotted=dotted)
    _assert_tiny(data.load("mnist", str(tmp_path)))


def test_from_environment(tiny, tmp_path, monkeypatch):
    folder = _write_idx_folder(tmp_path / "files")
    monkeypatch.setenv("TFNODE_DATA_DIR", str(folder))
    dataset = data.load("auto")
    _assert_tiny(dataset)
    assert dataset.source == "MNIST's four IDX files"


def test_argument_comes_before_environment(tiny, tmp_path, monkeypatch):
    folder = _write_idx_folder(tmp_path / "files")
    monkeypatch.setenv("TFNODE_DATA_DIR", str(tmp_path / "none"))
    _assert_tiny(data.load("mnist", folder))
    with pytest.raises(DataError, match="does not exist"):
        data.load("mnist")


def test_from_keras_cache(tiny, tmp_path):
    cache = tmp_path / "keras" / "datasets"
    cache.mkdir(parents=True)
    (cache / "mnist.npz").write_bytes(_npz_bytes(tiny))
    dataset = data.load("auto")
    _assert_tiny(dataset)
    assert dataset.source == "mnist.npz"


def test_bad_keras_cache_is_refused(tiny, tmp_path):
    cache = tmp_path / "keras" / "datasets"
    cache.mkdir(parents=True)
    (cache / "mnist.npz").write_bytes(GOOD_NPZ[:-50])
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match=r"mnist\.npz"):
            data.load(name)


def test_images_and_labels_swapped(tiny, tmp_path):
    swapped = {
        "x_train": TINY["y_train"],
        "y_train": TINY["x_train"],
        "x_test": TINY["x_test"],
        "y_test": TINY["y_test"],
    }
    _write_idx_folder(tmp_path, swapped)
    with pytest.raises(DataError, match="x_train"):
        data.load("mnist", tmp_path)


def test_values_of_another_array_are_named(tiny, tmp_path, monkeypatch):
    same_size = {**TINY, "x_test": TINY["x_train"][::-1].copy()}
    checksums = {
        n: (a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in same_size.items()
    }
    monkeypatch.setattr(mnist, "ARRAYS", checksums)
    swapped = {**same_size, "x_train": same_size["x_test"], "x_test": same_size["x_train"]}
    _write_idx_folder(tmp_path, swapped)
    with pytest.raises(DataError, match="the values of x_test"):
        data.load("mnist", tmp_path)


def test_missing_folder(tiny, tmp_path):
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match="does not exist") as error:
            data.load(name, tmp_path / "none")
        assert str(tmp_path / "none") in str(error.value)


def test_file_for_a_folder(tiny, tmp_path):
    path = tmp_path / "mnist.npz"
    path.write_bytes(GOOD_NPZ)
    with pytest.raises(DataError) as error:
        data.load("mnist", path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("absent", list(IDX_FILES))
def test_three_of_four_files(tiny, tmp_path, absent):
    _write_idx_folder(tmp_path)
    (tmp_path / IDX_FILES[absent]).unlink()
    for name in ("mnist", "auto"):
        with pytest.raises(DataError) as error:
            data.load(name, tmp_path)
        missing = str(error.value).split("Missing:")[1]
        assert IDX_FILES[absent] in missing
        assert all(f not in missing for n, f in IDX_FILES.items() if n != absent)


def test_empty_folder(tiny, tmp_path):
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match="Missing"):
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


def test_download_is_encrypted_and_every_array_is_checked():
    assert mnist.URL.startswith("https://")
    assert set(mnist.ARRAYS) == set(IDX_FILES)
    assert all(len(bytes.fromhex(checksum)) == 32 for _, checksum in mnist.ARRAYS.values())


def _cached_files(tmp_path):
    return sorted(p for p in (tmp_path / "keras").rglob("*") if p.is_file())


def test_download_fails(tiny, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure: no such host")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(mnist.Unavailable, match="no such host"):
        data.load("mnist")
    dataset = data.load("auto")
    assert dataset.name == "digits"
    assert "no such host" in dataset.source
    assert _cached_files(tmp_path) == []


def _downloads(content):
    """A `get_file` that saves `content` where it is asked to."""

    def get_file(fname, origin, cache_dir, cache_subdir, **kwargs):
        assert origin == mnist.URL
        path = pathlib.Path(cache_dir) / cache_subdir / fname
        path.write_bytes(content)
        return str(path)

    return get_file


@pytest.mark.parametrize("content", [b"<html>log in</html>", GOOD_NPZ[:-50], b""])
def test_corrupt_download_is_not_kept(tiny, tmp_path, monkeypatch, content):
    monkeypatch.setattr(keras.utils, "get_file", _downloads(content))
    with pytest.raises(mnist.Unavailable, match="is not MNIST"):
        data.load("mnist")
    assert data.load("auto").name == "digits"
    assert _cached_files(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError("slow")])
def test_download_that_breaks_off_leaves_nothing(tiny, tmp_path, monkeypatch, error):
    def fail(fname, origin, cache_dir, cache_subdir, **kwargs):
        (pathlib.Path(cache_dir) / fname).write_bytes(GOOD_NPZ[:100])
        raise error

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(mnist.Unavailable, match=str(error.args[-1])):
        data.load("mnist")
    assert _cached_files(tmp_path) == []


def test_errors_of_our_own_are_not_taken_for_a_failed_download(tiny, monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", _downloads(GOOD_NPZ))
    monkeypatch.setattr(mnist, "read_npz", mock.Mock(side_effect=AttributeError("a bug")))
    with pytest.raises(AttributeError, match="a bug"):
        data.load("auto")


def test_download_is_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", _downloads(GOOD_NPZ))
    _assert_tiny(data.load("mnist"))
    cached = tmp_path / "keras" / "datasets" / "mnist.npz"
    assert _cached_files(tmp_path) == [cached]
    assert list(cached.parent.iterdir()) == [cached]

    def fail(*args, **kwargs):
        raise AssertionError("downloaded twice")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    _assert_tiny(data.load("mnist"))


def test_cache_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "keras").write_text("a file where the folder should be")
    monkeypatch.setattr(keras.utils, "get_file", _downloads(GOOD_NPZ))
    with pytest.raises(mnist.Unavailable):
        data.load("mnist")
    assert data.load("auto").name == "digits"


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
