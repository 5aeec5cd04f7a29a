"""The one command `tfnode`, and the configs that come with the package."""

import pathlib
import subprocess
import sys

import pytest
import setuptools

import tfnode
from tfnode import __main__ as command
from tfnode.lab import config_file
from tfnode.lab.search_space import read_config
from tfnode.lab.study import read_cells

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]


def test_configs_are_in_the_package():
    """The wheel has the files of `configs/`, of which there is one copy."""
    assert "tfnode.configs" in setuptools.find_packages(ROOT, include=["tfnode*"])
    assert config_file.FOLDER.resolve() == ROOT / "configs"


def test_configs_by_name_where_there_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(read_cells("configs/study.py:mnist", "out")) == 18
    assert read_config("configs/tune.py").base.name == "ode"
    for name in ("configs/none.py", "study.py", "more/configs/study.py"):
        with pytest.raises(ValueError, match=f"path of a config file. Received: {name}"):
            config_file.find(name)


def test_own_configs_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "study.py").touch()
    assert config_file.find("configs/study.py") == pathlib.Path("configs/study.py")


def test_a_command_from_anywhere(tmp_path):
    """As `python -m tfnode`; what a command prints is under its own name."""
    arguments = [sys.executable, "-m", "tfnode", "train", "--epochs=0"]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("tfnode train: epochs must be an integer from 1")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_is_there(name, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([name, "--help"])
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_topics_are_those_of_reproduce():
    found = {
        path.stem
        for path in (ROOT / "tfnode" / "reproduce").glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text() and path.stem != "command"
    }
    assert set(command.TOPICS) == found
    with pytest.raises(SystemExit) as ended:
        command.main(["reproduce", "spirals", "--seeds=none"])
    assert ended.value.code == 2


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["trian"])
    assert ended.value.code == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_no_command(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    assert "classifies an image file" in capsys.readouterr().err
