"""The state of training in one file, for `Backup` and `StepBackup`."""

import pathlib
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfnode.files.whole import FileError, replacing


class CheckpointError(FileError):
    """A checkpoint that cannot be read, or that is that of another model or optimizer."""


def write(path: pathlib.Path, model: keras.Model, **named: Any) -> None:
    """Write the state of a compiled model, and numbers by their names, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(variables(model))}
    with replacing(path) as temporary:
        np.savez(temporary, layout=_layout(model), **named, **arrays)


def read(
    path: pathlib.Path, model: keras.Model, names: Iterable[str]
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Return the content of a file of `write`, for the same model with the same optimizer.

    Args:
        path: The file.
        model: The compiled model, whose state stays as it is.
        names: Names of numbers in the file.

    Returns:
        `(arrays, named)`: the state, for `assign`, and a dict of the numbers.

    Raises:
        CheckpointError: If the file cannot be read, or is that of another model.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    try:
        with np.load(path, allow_pickle=False) as file:
            named = {name: file[name] for name in names}
            int(named["epoch"])
            fits = file["layout"].tolist() == _layout(model)
            arrays = [file[str(i)] for i in range(len(variables(model)))] if fits else []
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"Expected a checkpoint at {path}. Received: {error}.") from error
    if not fits:
        raise CheckpointError(
            f"The checkpoint {path} is that of another model or optimizer. Use the version of "
            f"tfnode and Keras that wrote it."
        )
    return arrays, named


def assign(model: keras.Model, arrays: Sequence[Any]) -> None:
    """Put a model into a state that `read` returned."""
    for variable, value in zip(variables(model), arrays):
        variable.assign(value)


def variables(model: keras.Model) -> list[Any]:
    """Return all that training changes and the next epoch needs, always in the same order."""
    return [*model.variables, *model.optimizer.variables]


def _layout(model: keras.Model) -> list[str]:
    """Return names and shapes of the variables, without the numbers that Keras counts up.

    The paths of the variables of an optimizer depend on who built it; the names do not.
    """
    return [
        f"{re.sub('_[0-9]+', '', v.name)} {keras.backend.standardize_dtype(v.dtype)} "
        f"{tuple(v.shape)}"
        for v in variables(model)
    ]
