"""The record of a run, `config.json`, and the rules for resuming from it."""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from tfnode.runs.contents import CHECKPOINTS, CONFIG, HISTORY, LATEST, METRICS
from tfnode.runs.errors import Finished, OtherSettings, RunError
from tfnode.runs.files import read_json, usable
from tfnode.runs.run_dir import check_contents

# In the record of a run whose model takes images of 0 to 255, and the name of its layer that
# normalises them. Models of older versions take images that are normalised.
INPUTS, PIXELS = "inputs", "pixels"
FROM_PIXELS = "from_pixels"


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the `config.json` of a run that is to be continued.

    Returns:
        A dict with at least `"settings"`, a dict, and `"dataset"`, a dict with a `"name"`.

    Raises:
        RunError: If there is no run or its `config.json` cannot be used.
    """
    path = pathlib.Path(path)
    with usable(path):
        check_contents(path, resume=True, overwrite=False)
    remedy = f"{path} cannot be resumed; begin again with --overwrite."
    try:
        record = read_json(path / CONFIG)
    except RunError as error:
        raise RunError(f"{error}. {remedy}") from error
    settings, dataset = record.get("settings"), record.get("dataset")
    if not isinstance(settings, dict) or not isinstance(dataset, dict) or "name" not in dataset:
        raise RunError(f"Expected the settings and data of a run in {path / CONFIG}. {remedy}")
    model = settings.get("model")
    if isinstance(model, dict) and "norm" in model:
        # Runs of older versions had plain batch normalisation and smaller groups, and go on so.
        model.setdefault("renorm", model["norm"] != "batch")
        model.setdefault("group_size", 1)
    return record


def check_resume(
    path: str | os.PathLike[str], record: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Raise an error for other settings than those of a run, and for a finished run.

    Only `epochs` may differ from the record, and be larger. A schedule of the learning rate
    depends on `epochs`, so with a schedule they may not differ either.

    Args:
        path: The run directory.
        record: The result of `read_record` for it, with all settings.
        settings: The settings to continue with, a nested dict.

    Raises:
        OtherSettings: Naming the settings that differ.
        Finished: If nothing is left to do.
    """
    path = pathlib.Path(path)
    # JSON has turned the tuples of the record into lists.
    new = flat(json.loads(json.dumps(settings)))
    old = flat(record["settings"])
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    before, after = old.get("epochs"), new.get("epochs")
    constant = old.get("schedule", "constant") == "constant"
    more = isinstance(before, int) and isinstance(after, int) and before < after
    if "epochs" in names and constant and more:
        names.remove("epochs")
    if names:
        expected, received = (
            ", ".join(f"{n}={found.get(n)!r}" for n in names) for found in (old, new)
        )
        raise OtherSettings(
            f"The run in {path} goes on with the settings that it was begun with; only epochs "
            f"may be raised. Expected {expected}. Received: {received}. Leave them out, or begin "
            "another run with another --log_dir."
        )
    if (path / METRICS).exists():
        metrics = read_json(path / METRICS)
        ended_early = metrics.get("interrupted") or metrics.get("diverged")
        if not ended_early and metrics.get("epochs") == after:
            raise Finished(
                f"The run in {path} is finished: {after} epochs. To train on, raise --epochs."
            )


def copy_to_resume(path: str | os.PathLike[str], copy: str | os.PathLike[str]) -> None:
    """Copy the files that resuming reads, for a process that must not write to the run.

    Raises:
        RunError: If the run cannot be read.
    """
    path, copy = pathlib.Path(path), pathlib.Path(copy)
    with usable(path):
        (copy / CHECKPOINTS).mkdir(parents=True)
        for name in (CONFIG, HISTORY, f"{CHECKPOINTS}/{LATEST}"):
            if (path / name).exists():
                shutil.copyfile(path / name, copy / name)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested dict as one with dots in its names."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result.update(flat(value, f"{prefix}{name}."))
        else:
            result[prefix + name] = value
    return result
