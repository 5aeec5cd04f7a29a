"""Config files that commands take by their path. Imports no TensorFlow."""

import pathlib
import runpy
import sys
import traceback


def load(path, needed: dict, others: bool = True) -> dict:
    """What `get_config()` of a Python file returns, as a dict.

    As with `ml_collections.config_flags`, `file.py:argument` calls `get_config("argument")`.
    The folder above the file's is where it may import from: `from configs import ode`.

    Args:
        path: The file.
        needed: Name to type, or several, of the entries that it must have.
        others: Whether it may have others.

    Raises:
        ValueError: If there is no such file, function or entry, or running it fails.
    """
    name, *arguments = str(path).split(":", 1)
    file = pathlib.Path(name)
    if not file.is_file():
        raise ValueError(f"Expected the path of a config file. Received: {path}")
    above = str(file.resolve().parent.parent)
    sys.path.insert(0, above)
    try:
        function = runpy.run_path(name).get("get_config")
        # `get_config` may import, too.
        config = plain(function(*arguments)) if callable(function) else None
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"Expected Python in {file}, with a get_config that takes what stands after ':'. "
            f"Received: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            f"{_line(error, name)}"
        ) from error
    finally:
        sys.path.remove(above)
    if not callable(function):
        raise ValueError(f"Expected a function get_config in {file}. Received: none")
    if not isinstance(config, dict):
        raise ValueError(f"Expected a dict from get_config of {file}. Received: {config!r:.200}")
    unknown = [] if others else [entry for entry in config if entry not in needed]
    if unknown:
        raise ValueError(
            f"Expected {', '.join(needed)} and nothing else from get_config of {file}. "
            f"Received: {', '.join(map(str, unknown))}"
        )
    for entry, kind in needed.items():
        if not isinstance(config.get(entry), kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(k.__name__ for k in kinds)
            raise ValueError(
                f"Expected {entry}, a {expected}, from get_config of {file}. "
                f"Received: {entry}={config.get(entry)!r:.200}"
            )
    return config


def _line(error, name):
    """Where in a file an error arose, for people; empty if not there."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
    return f" (line {lines[-1]})" if lines else ""


def plain(config):
    """A `ml_collections.ConfigDict`, alone or in a dict, as a dict; a copy."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, dict):
        return {name: plain(value) for name, value in config.items()}
    return config


def override(config: dict, changes: dict) -> dict:
    """A copy of a nested dict with some entries changed, by their names with dots.

    Raises:
        ValueError: If it is no dict, or a name is none of an entry.
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
