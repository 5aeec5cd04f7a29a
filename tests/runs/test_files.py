"""JSON files of runs."""

import json
import math
import os

import pytest

from tfnode.files import history
from tfnode.files.whole import FileError
from tfnode.runs import files
from tfnode.runs.errors import RunError


def test_json_reads_back(tmp_path):
    value = {"a": 1, "b": [None, 2.5, "ü"], "c": {"d": True}}
    files.write_json(tmp_path / "file.json", value)
    assert files.read_json(tmp_path / "file.json") == value
    assert json.loads((tmp_path / "file.json").read_text()) == value


def test_json_that_cannot_be_written_leaves_the_old(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"old": 1})
    for value, error in (({"x": math.nan}, ValueError), ({"x": object()}, TypeError)):
        with pytest.raises(error):
            files.write_json(path, value)
    assert files.read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


BAD_JSON = {
    "empty": b"",
    "cut": b'{"a": ',
    "list": b"[1]",
    "number": b"1",
    "no utf-8": b'{"a": "\xff"}',
    "deep": b"[" * 100000,
    "very long number": b'{"a": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_json_refuses(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as error:
        files.read_json(path)
    assert str(path) in str(error.value)


def test_json_missing(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(RunError) as error:
            files.read_json(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("read", [files.read_json, history.read_history])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is no file"):
        read(tmp_path / "pipe")
