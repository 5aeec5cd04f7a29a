"""The files of a run directory, by their names, and whose the files in a folder are."""

import fnmatch
import os
import pathlib
import re
from typing import NamedTuple

from tfnode.files.whole import TEMPORARY
from tfnode.runs.errors import RunError
from tfnode.runs.files import read_json

CONFIG = "config.json"
HISTORY = "history.csv"
CURVES = "curves.png"
METRICS = "metrics.json"
PREDICTIONS = "predictions.png"
CONFUSION = "confusion.png"
MODEL = "model.keras"
BEST = "best.keras"
CHECKPOINTS = "checkpoints"
# In the folder of checkpoints: after the last whole epoch, and within the epoch after it.
LATEST = "latest.npz"
STEP = "step.npz"
EVENTS = ("train", "validation")
# The artefacts of tfnode.export. The 1 is the version for TensorFlow Serving.
EXPORTS = {"saved_model": "saved_model/1", "onnx": "model.onnx", "tflite": "model.tflite"}
LOCK = ".lock"
CONTENTS = (
    *(CONFIG, HISTORY, CURVES, PREDICTIONS, CONFUSION, METRICS, MODEL, BEST),
    *(CHECKPOINTS, *EVENTS),
)

_SAVED_MODEL = EXPORTS["saved_model"]
# Every file that tfnode writes in a run directory, as a pattern of its path there.
FILES = (
    *(CONFIG, HISTORY, CURVES, PREDICTIONS, CONFUSION, METRICS, MODEL, BEST, LOCK),
    "events.out.tfevents.*",
    *(f"{CHECKPOINTS}/{LATEST}", f"{CHECKPOINTS}/{STEP}"),
    *(f"{folder}/events.out.tfevents.*" for folder in EVENTS),
    *(EXPORTS["onnx"], EXPORTS["tflite"]),
    *(f"{_SAVED_MODEL}/saved_model.pb", f"{_SAVED_MODEL}/fingerprint.pb"),
    *(f"{_SAVED_MODEL}/variables/variables.index", f"{_SAVED_MODEL}/variables/variables.data-*"),
)
FOLDERS = {
    *(CHECKPOINTS, *EVENTS, f"{_SAVED_MODEL}/assets", f"{_SAVED_MODEL}/variables"),
    *(_SAVED_MODEL, _SAVED_MODEL.split("/")[0]),
}
# The names that `replacing` makes of these.
_HALF = re.compile(rf"{re.escape(TEMPORARY)}(.+)-[a-z0-9_]+(\.[^.]+)")


class Contents(NamedTuple):
    """The entries of a folder, each by its path within the folder.

    Attributes:
        own: Files that tfnode wrote, by their names.
        folders: Folders of such files, inner ones first.
        disguised: Links, pipes, and others that have the name of such a file or folder.
        others: Everything else; a folder stands for all that it holds.
    """

    own: list[pathlib.PurePath]
    folders: list[pathlib.PurePath]
    disguised: list[pathlib.PurePath]
    others: list[pathlib.PurePath]


def contents(folder: str | os.PathLike[str]) -> Contents:
    """Return the entries of a folder, without following any link."""
    found = Contents([], [], [], [])
    if os.path.isdir(folder):
        _sort(pathlib.Path(folder), pathlib.PurePath(), found)
    return found


def _sort(folder: pathlib.Path, inside: pathlib.PurePath, found: Contents) -> None:
    for entry in sorted(os.scandir(folder / inside), key=lambda entry: entry.name):
        path = inside / entry.name
        is_file, is_folder = _is_own_file(path), path.as_posix() in FOLDERS
        if is_file and entry.is_file(follow_symlinks=False):
            found.own.append(path)
        elif is_folder and entry.is_dir(follow_symlinks=False):
            _sort(folder, path, found)
            found.folders.append(path)
        else:
            (found.disguised if is_file or is_folder else found.others).append(path)


def _is_own_file(path: pathlib.PurePath) -> bool:
    whole = path.with_name(_HALF.sub(r"\1\2", path.name))
    return any(
        whole.parent == pattern.parent and fnmatch.fnmatchcase(whole.name, pattern.name)
        for pattern in map(pathlib.PurePath, FILES)
    )


def is_half(name: str) -> bool:
    """Return whether a name is that of a file that `replacing` has not finished."""
    return _HALF.fullmatch(name) is not None


def holds_run(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a run, or the beginning of one.

    The mark of a run is a `config.json` that names the version of tfnode which wrote it.
    """
    file = pathlib.Path(path, CONFIG)
    if file.is_symlink() or not file.is_file():
        return False
    try:
        record = read_json(file)
    except RunError:
        return False
    versions = record.get("versions")
    return "settings" in record and isinstance(versions, dict) and "tfnode" in versions


def listed(paths: list[pathlib.PurePath], shown: int = 4) -> str:
    """Return paths as text for people, which names the first few."""
    text = ", ".join(str(path) for path in paths[:shown])
    return f"{text} and {len(paths) - shown} more" if len(paths) > shown else text
