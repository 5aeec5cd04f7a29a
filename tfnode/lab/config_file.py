"""Config files: Python files with a function `get_config`."""

import os
import pathlib
import runpy
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from tfnode.lab.section import plain
from tfnode.lab.settings import Settings

# The configs that come with tfnode. In a clone the folder is a link to `configs/`.
FOLDER = pathlib.Path(__file__).parents[1] / "configs"

# Methods of `ml_collections.ConfigDict`, in which configs were written before.
_FORMER = ("unlocked", "lock", "unlock", "update", "get", "items", "update_from_flattened_dict")


def load(
    path: str | os.PathLike[str], needed: Mapping[str, Any], others: bool = True
) -> dict[str, Any]:
    """Return the result of `get_config()` in a file as a dict.

    The path `file.py:argument` calls `get_config("argument")`. The file may import from the
    folder above its own, and the configs of tfnode: `from tfnode.configs import ode`.

    Args:
        path: The file, as `find` takes it.
        needed: Name to type, or several, of the entries that the dict must have.
        others: Whether the dict may have others.

    Raises:
        ValueError: If there is no such file, function or entry, or running it fails.
    """
    name, *arguments = str(path).split(":", 1)
    config = plain(_call(name, arguments))
    if not isinstance(config, dict):
        raise ValueError(f"Expected a dict from get_config of {name}. Received: {config!r:.200}")
    unknown = [] if others else [entry for entry in config if entry not in needed]
    if unknown:
        raise ValueError(
            f"Expected {', '.join(needed)} and nothing else from get_config of {name}. "
            f"Received: {', '.join(map(str, unknown))}"
        )
    for entry, kind in needed.items():
        if not isinstance(config.get(entry), kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(k.__name__ for k in kinds)
            raise ValueError(
                f"Expected {entry}, a {expected}, from get_config of {name}. "
                f"Received: {entry}={config.get(entry)!r:.200}"
            )
    return config


def find(name: str | os.PathLike[str]) -> pathlib.Path:
    """Return the path of a config file; where there is no `configs/NAME.py`, that of tfnode.

    Raises:
        ValueError: If there is neither.
    """
    file = pathlib.Path(name)
    if not file.exists() and file.parent == pathlib.Path("configs"):
        file = FOLDER / file.name
    if not file.is_file():
        raise ValueError(f"Expected the path of a config file. Received: {name}")
    return file


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Return the settings of an experiment that a file describes.

    Raises:
        ValueError: As `load` does.
    """
    return Settings.read(load(path, {"model": dict}))


def experiments(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the files in a folder that describe an experiment."""
    names = []
    for file in sorted(pathlib.Path(folder).glob("*.py")):
        try:
            config = _call(str(file), []) if "def get_config()" in file.read_text() else None
        except ValueError:
            continue
        if isinstance(config, Settings) and config.model.name:
            names.append(file.stem)
    return tuple(names)


def override(config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a nested dict with some entries changed, by their names with dots.

    Raises:
        ValueError: If `config` is no dict, or a name is not the name of an entry.
    """
    config = plain(config)
    if not isinstance(config, dict):
        raise ValueError(f"Expected settings, a dict. Received: {config!r:.200}")
    for name, value in changes.items():
        if not isinstance(name, str):
            raise ValueError(f"Expected the name of a setting. Received: {name!r:.200}")
        place = config
        *path, last = name.split(".")
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f"Expected the name of a setting. Received: {name}")
        place[last] = value
    return config


def _call(name: str, arguments: list[str]) -> Any:
    """Return the result of `get_config` in a file."""
    file = find(name)
    # `runpy` is for files of users, which are no modules of a package: a path names them.
    above = str(file.resolve().parent.parent)
    sys.path.insert(0, above)
    try:
        function = runpy.run_path(str(file)).get("get_config")
        if callable(function):
            # The function may import, too.
            return function(*arguments)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"Expected Python in {file}, with a get_config that takes the text after ':'. "
            f"Received: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            f"{_line(error, str(file))}{_remedy(error)}"
        ) from error
    finally:
        sys.path.remove(above)
    raise ValueError(f"Expected a function get_config in {file}. Received: {function}")


def _line(error: BaseException, name: str) -> str:
    """Return the line of a file in which an error arose; nothing if it arose elsewhere."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
    return f" (line {lines[-1]})" if lines else ""


def _remedy(error: BaseException) -> str:
    if not isinstance(error, AttributeError) or error.name not in _FORMER:
        return ""
    return (
        ". A config is a tfnode.lab.settings.Settings: write config.model.filters = 16 or "
        "config.model.regularizers = {...}, without ConfigDict's methods"
    )
