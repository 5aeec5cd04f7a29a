"""Config files that commands take by their path. Imports no TensorFlow."""

import pathlib
import runpy
import sys


def load(path, needed: dict) -> dict:
    """What `get_config()` of a Python file returns, as a dict.

    As with `ml_collections.config_flags`, `file.py:argument` calls `get_config("argument")`.
    The folder above the file's is where it may import from: `from configs import ode`.

    Args:
        path: The file.
        needed: Name to type of the entries that it must have.

    Raises:
        ValueError: If there is no such file, function or entry.
    """
    name, *arguments = str(path).split(":", 1)
    file = pathlib.Path(name)
    if not file.is_file():
        raise ValueError(f"Expected the path of a config file. Received: {path}")
    sys.path.insert(0, str(file.resolve().parent.parent))
    try:
        function = runpy.run_path(name).get("get_config")
    finally:
        del sys.path[0]
    if not callable(function):
        raise ValueError(f"Expected a function get_config in {file}. Received: none")
    config = plain(function(*arguments))
    if not isinstance(config, dict):
        raise ValueError(f"Expected a dict from get_config of {file}. Received: {config!r:.200}")
    for entry, kind in needed.items():
        if not isinstance(config.get(entry), kind):
            raise ValueError(
                f"Expected {entry}, a {kind.__name__}, from get_config of {file}. "
                f"Received: {entry}={config.get(entry)!r:.200}"
            )
    return config


def plain(config):
    """A `ml_collections.ConfigDict`, alone or in a dict, as a dict; a copy."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, dict):
        return {name: plain(value) for name, value in config.items()}
    return config


def override(config: dict, changes: dict) -> dict:
    """A copy of a nested dict with some entries changed, by their names with dots."""
    config = plain(config)
    for name, value in changes.items():
        place = config
        *path, last = name.split(".")
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return config
