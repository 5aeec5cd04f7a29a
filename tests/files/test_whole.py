"""Files that are whole or not there."""

import os
import stat

import pytest

from tfnode.files import whole
from tfnode.runs import files


@pytest.fixture
def umask():
    """Sets the mask for new files, and sets it back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_replacing_writes(tmp_path):
    path = tmp_path / "file.json"
    for text in ("one", "two"):
        with whole.replacing(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".json"
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(error), whole.replacing(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_makes_nothing_when_the_body_raises(tmp_path):
    with pytest.raises(ValueError), whole.replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_replacing_a_folder_fails_and_leaves_nothing(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError), whole.replacing(tmp_path / "taken") as temporary:
        temporary.write_text("text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inside", "taken"]


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_mask(tmp_path, umask, mask, mode):
    umask(mask)
    files.write_json(tmp_path / "file.json", {})
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == mode
    assert umask(0o022) == mask
