"""The Python of the README runs as it stands there."""

import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_example(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Functions of a script, whose source AutoGraph reads, are in a file.
    path = tmp_path / "example.py"
    path.write_text(BLOCKS[number])
    exec(compile(BLOCKS[number], str(path), "exec"), {"__name__": "__main__"})


def test_there_are_examples():
    assert len(BLOCKS) >= 3
