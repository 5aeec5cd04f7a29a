"""The state of training in one file: what `Backup` and `StepBackup` save."""

import re
import zipfile

import keras
import numpy as np

from tfnode.run_dir import RunError, replacing


def write(path, model, **named):
    """Writes the state of a compiled model, and numbers by their names, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(model))}
    with replacing(path) as temporary:
        np.savez(temporary, layout=_layout(model), **named, **arrays)


def read(path, model, names, remedy):
    """What `write` wrote for the same model, with the same optimizer.

    Args:
        path: The file.
        model: The compiled model, whose state stays as it is.
        names: Names of numbers in the file.
        remedy: What to do where the file cannot be used, a sentence for the error.

    Returns:
        `(arrays, named)`: the state, for `assign`, and a dict of the numbers.

    Raises:
        RunError: If the file cannot be read, or is that of another model.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    try:
        with np.load(path, allow_pickle=False) as file:
            named = {name: file[name] for name in names}
            int(named["epoch"])
            fits = file["layout"].tolist() == _layout(model)
            arrays = [file[str(i)] for i in range(len(_variables(model)))] if fits else []
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"Expected a checkpoint at {path}. Received: {error}. {remedy}") from error
    if not fits:
        raise RunError(
            f"The checkpoint {path} is that of another model or optimizer. Use the version of "
            f"tfnode and Keras that wrote it. Otherwise: {remedy}"
        )
    return arrays, named


def assign(model, arrays):
    """Puts a model into a state that `read` returned."""
    for variable, value in zip(_variables(model), arrays):
        variable.assign(value)


def _variables(model):
    """All that training changes and the next epoch needs, in an order that is always the same."""
    return [*model.variables, *model.optimizer.variables]


def _layout(model):
    """What the variables are, without the numbers that Keras adds to names of a process.

    By names and not paths, since those of an optimizer depend on who built it.
    """
    return [
        f"{re.sub('_[0-9]+', '', v.name)} {keras.backend.standardize_dtype(v.dtype)} "
        f"{tuple(v.shape)}"
        for v in _variables(model)
    ]
