"""The house: who may import whom."""

import ast
import pathlib

import pytest

import tfnode

ROOT = pathlib.Path(tfnode.__file__).parent
COMMANDS = {"__main__", "train", "report", "study", "tune", "export", "classify"}
# Each room may import from those before it, and from its own.
ROOMS = ["files", "library", "runs", "lab", "serving", "reproduce", "command"]


def _room(name):
    """The room of a module of tfnode, by its name with dots."""
    first = name.split(".")[1] if "." in name else "library"
    return "command" if first in COMMANDS else first if first in ROOMS else "library"


def _imports(path):
    """The modules of tfnode that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tfnode"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tfnode."))


MODULES = {
    ".".join(["tfnode", *path.relative_to(ROOT).with_suffix("").parts]): path
    for path in sorted(ROOT.rglob("*.py"))
}


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    room = _room(name)
    for imported in _imports(MODULES[name]):
        target = _room(imported)
        assert ROOMS.index(target) <= ROOMS.index(room), imported
        if room == "command":
            assert target != "reproduce" and (target != "command" or imported == name), imported


def test_no_way_around_the_import_system():
    for name, path in MODULES.items():
        words = {"runpy.run_path": "tfnode.lab.config_file", "sys.argv": None, "orig_argv": None}
        for word, where in words.items():
            assert word not in path.read_text() or name == where, (name, word)
