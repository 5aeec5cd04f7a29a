"""What `tfnode.tune` searches: the config of a search, checked. Imports no TensorFlow."""

import pathlib

from tfnode import config_file, settings

# Trials that differ in these cannot be compared.
UNSEARCHED = {"dataset", "model.name", "name", "seed", "validation"}
ENTRIES = {"model": str, "settings": dict, "search": dict, "trials": int, "seed": int}


def read_config(path):
    """What to search, and the settings that it begins with.

    Args:
        path: A file whose `get_config()` returns a dict: `model` is the name of a config file
            beside it, and `settings` are changes to that, by their names with dots; `search`
            has for each name the arguments of one of Optuna's `suggest_*`: `choices`, or `low`
            and `high` with perhaps `log` and `step`; `trials` is their number, `seed` that of
            the search.

    Returns:
        `(config, base)`: that dict, and the settings of an experiment, a nested dict.

    Raises:
        ValueError: If the file or a setting in it is not right.
    """
    config = config_file.load(path, ENTRIES, others=False)
    file = pathlib.Path(str(path).split(":")[0])
    file = file.with_name(f"{config['model']}.py")
    if not file.is_file():
        raise ValueError(
            f"Expected the name of a config file beside {path}, such as ode for ode.py. "
            f"Received: model={config['model']!r}"
        )
    base = config_file.load(file, {"model": dict})
    base = config_file.override(base, config["settings"])
    settings.check(base)
    if not base.get("validation"):
        raise ValueError(
            "Expected a part of the training set to choose settings by, such as "
            f"validation=0.2 among the settings. Received: validation={base.get('validation')}"
        )
    if not config["search"] or config["trials"] < 1:
        raise ValueError(
            "Expected one or more settings to search, and trials. Received: "
            f"search={config['search']}, trials={config['trials']}"
        )
    settings.check_value("seed", config["seed"])
    for name, space in config["search"].items():
        _check_space(name, space, base["model"]["name"])
    return config, base


def optional(name):
    """Whether a setting may be left out, and then is the model's own."""
    return any(name in names for names in settings.OPTIONAL.values())


def suggest(trial, name, space):
    """A value out of one entry of `search`."""
    if "choices" in space:
        return trial.suggest_categorical(name, space["choices"])
    return (trial.suggest_int if _whole(space) else trial.suggest_float)(name, **space)


def _check_space(name, space, model):
    """Refuses an entry of `search` of which no trial could come, whatever the others are."""
    valid = sorted({*settings.names_for(model)} - UNSEARCHED)
    if name not in valid:
        raise ValueError(
            f"Expected one of {', '.join(valid)} to search for the model {model}. "
            f"Received: {name}={space!r:.200}"
        )
    kind = space.keys() if isinstance(space, dict) else set()
    if kind != {"choices"} and not {"low", "high"} <= kind <= {"low", "high", "log", "step"}:
        raise ValueError(
            f"Expected choices, or low and high and perhaps log or step, for {name}. "
            f"Received: {name}={space!r:.200}"
        )
    values = space["choices"] if "choices" in space else (space["low"], space["high"])
    if not isinstance(values, (tuple, list)) or not values:
        raise ValueError(f"Expected one or more choices for {name}. Received: {values!r:.200}")
    for value in values:
        if value is not None or "low" in space or not optional(name):
            settings.check_value(name, value)
    if "low" not in space:
        return
    log, step = space.get("log", False), space.get("step")
    kind = int if _whole(space) else (int, float)
    stepped = step is None or (
        not log and isinstance(step, kind) and not isinstance(step, bool) and step > 0
    )
    ordered = name in settings.RANGES and values[0] <= values[1]
    if not ordered or not isinstance(log, bool) or (log and values[0] <= 0) or not stepped:
        raise ValueError(
            f"Expected numbers low <= high for {name}; log=True only above 0; a step above 0, "
            f"whole where low and high are, only without log. Received: {name}={space!r:.200}"
        )


def _whole(space):
    return isinstance(space["low"], int) and isinstance(space["high"], int)
