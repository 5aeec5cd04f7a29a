"""A run directory: its names, and reading and writing its files whole.

Imports no TensorFlow, so that what only reads runs starts at once.
"""

import contextlib
import csv
import json
import os
import pathlib
import shutil
import tempfile

CONFIG = "config.json"
HISTORY = "history.csv"
CURVES = "curves.png"
METRICS = "metrics.json"
MODEL = "model.keras"
BEST = "best.keras"
CHECKPOINTS = "checkpoints"
EVENTS = ("train", "validation")
# What tfnode.export writes, unless told where. The 1 is the version for TensorFlow Serving.
EXPORTS = {"saved_model": "saved_model/1", "onnx": "model.onnx", "tflite": "model.tflite"}
CONTENTS = (CONFIG, HISTORY, CURVES, METRICS, MODEL, BEST, CHECKPOINTS, *EVENTS)
CONTENTS += tuple(path.split("/")[0] for path in EXPORTS.values())

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "nfe_forward",
    "nfe_backward",
)


class RunError(ValueError):
    """A run directory that cannot be used; the message says what to do."""


@contextlib.contextmanager
def replacing(path):
    """Writes beside `path`, then renames over it, so that it is never half-written.

    Args:
        path: The file to replace.

    Yields:
        A temporary path in the same folder and with the same ending, to write to.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield pathlib.Path(name)
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _umask():
    """The mask for new files. Temporary ones are made private; what is kept need not be."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path, value):
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, sort_keys=True) + "\n")


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def read_json(path):
    """What `write_json` wrote.

    Raises:
        RunError: If the file is missing or is not a JSON object.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"Expected a JSON file at {path}. Received: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"Expected a JSON object in {path}. Received: {type(value).__name__}")
    return value


def write_history(path, rows):
    """Writes the rows of `HISTORY_COLUMNS`, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(path):
    """The rows of a `history.csv`: a list of dicts of floats, `None` where empty.

    Raises:
        RunError: If the file is missing, has other columns, or holds no numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = tuple(reader.fieldnames or ())
            if columns != HISTORY_COLUMNS:
                raise RunError(
                    f"Expected the columns {','.join(HISTORY_COLUMNS)} in {path}. "
                    f"Received: {','.join(columns)[:200]}"
                )
            rows = []
            for row in reader:
                if len(row) != len(columns) or None in row.values():
                    raise ValueError(f"a row of other than {len(columns)} numbers: {row}")
                rows.append({k: float(v) if v else None for k, v in row.items()})
                epoch = rows[-1]["epoch"]
                if epoch is None or not 1 <= epoch < 2**53 or epoch != int(epoch):
                    raise ValueError(f"epoch {row['epoch']!r}")
    except (OSError, csv.Error, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"Expected a history of a run at {path}. Received: {error}") from error
    return rows


def holds_run(path):
    """Whether a folder holds a run, or the beginning of one.

    Folders named `train` or `validation` alone are no sign of one.
    """
    names = (CONFIG, HISTORY, CURVES, METRICS, MODEL, BEST)
    return any((pathlib.Path(path) / name).is_file() for name in names)


def prepare(path, model, *, resume=False, overwrite=False):
    """Chooses and makes the folder of a run; two runs never share one.

    Args:
        path: The folder asked for, or `None` for `logs/<model>` or the next free
            `logs/<model>-2`.
        model: The name for the default folder.
        resume: Whether a run in the folder is to be continued.
        overwrite: Whether a run in the folder is to be replaced.

    Returns:
        A `pathlib.Path`.

    Raises:
        RunError: If the folder holds a run and neither is set, or cannot be used.
    """
    if path is None:
        path = pathlib.Path("logs", model)
        number = 2
        while not (resume or overwrite) and holds_run(path):
            path = pathlib.Path("logs", f"{model}-{number}")
            number += 1
    path = pathlib.Path(path)
    try:
        if holds_run(path):
            if overwrite:
                _remove_run(path)
            elif not resume:
                raise RunError(
                    f"{path} already holds a run. Choose another --log_dir, continue the run "
                    "with --resume, or replace it with --overwrite."
                )
        elif path.is_dir() and any(path.iterdir()):
            raise RunError(
                f"{path} holds files but no run. Choose an empty or new folder as --log_dir."
            )
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RunError(f"Cannot write to {path}: {error}. Choose another --log_dir.") from error
    return path


def _remove_run(path):
    """Deletes what a run wrote, and nothing else that lies beside it."""
    for name in CONTENTS:
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
