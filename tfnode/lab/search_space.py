"""`SearchSpace`: the settings that `tfnode.tune` searches."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfnode.lab import config_file
from tfnode.lab.section import Rule
from tfnode.lab.settings import Settings, rules_for

# Trials that differ in these cannot be compared.
UNSEARCHED = {"dataset", "model.name", "name", "seed", "validation"}
ENTRIES = {"model": str, "settings": dict, "search": dict, "trials": int, "seed": int}


class SearchSpace(NamedTuple):
    """A search, as a config file describes it.

    Attributes:
        base: The settings that the search begins with.
        config: The dict of the file, see `read_config`.
    """

    base: Settings
    config: dict[str, Any]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Return values that an Optuna trial proposes, by the names of the settings."""
        return {name: _suggest(trial, name, s) for name, s in self.config["search"].items()}

    def settings(self, changes: Mapping[str, Any]) -> Settings:
        """Return the settings with some changed.

        Raises:
            ValueError: If they contradict each other.
        """
        return Settings.read(config_file.override(self.base, changes))


def read_config(path: str | os.PathLike[str]) -> SearchSpace:
    """Return the search that a config file describes.

    Args:
        path: A file whose `get_config()` returns a dict. `model` is the name of a config file
            beside it, and `settings` are changes to that, by their names with dots. `search` has
            for each name the arguments of one of Optuna's `suggest_*`: `choices`, or `low` and
            `high` with perhaps `log` and `step`. `trials` is their number, `seed` that of the
            search.

    Raises:
        ValueError: If the file or a setting in it is not right.
    """
    config = config_file.load(path, ENTRIES, others=False)
    file = config_file.find(str(path).split(":")[0]).with_name(f"{config['model']}.py")
    if not file.is_file():
        raise ValueError(
            f"Expected the name of a config file beside {path}, such as ode for ode.py. "
            f"Received: model={config['model']!r}"
        )
    base = Settings.read(
        config_file.override(config_file.load(file, {"model": dict}), config["settings"])
    )
    if not base.validation:
        raise ValueError(
            "Expected a part of the training set to choose settings by, such as "
            f"validation=0.2 among the settings. Received: validation={base.validation}"
        )
    if not config["search"] or config["trials"] < 1:
        raise ValueError(
            "Expected one or more settings to search, and trials. Received: "
            f"search={config['search']}, trials={config['trials']}"
        )
    rules = rules_for(base.model.name)
    rules["seed"].check(config["seed"])
    searched = {name: rule for name, rule in rules.items() if name not in UNSEARCHED}
    for name, space in config["search"].items():
        if name not in searched:
            raise ValueError(
                f"Expected one of {', '.join(sorted(searched))} to search for the model "
                f"{base.model.name}. Received: {name}={space!r:.200}"
            )
        _check_space(searched[name], space)
    return SearchSpace(base, config)


def _suggest(trial: Any, name: str, space: Mapping[str, Any]) -> Any:
    if "choices" in space:
        return trial.suggest_categorical(name, space["choices"])
    return (trial.suggest_int if _whole(space) else trial.suggest_float)(name, **space)


def _check_space(rule: Rule, space: Any) -> None:
    """Raise an error for an entry of `search` that no trial could have."""
    name = rule.name
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
        rule.check(value)
    if "low" not in space:
        return
    log, step = space.get("log", False), space.get("step")
    number = int if _whole(space) else (int, float)
    stepped = step is None or (
        not log and isinstance(step, number) and not isinstance(step, bool) and step > 0
    )
    ordered = rule.range and None not in values and values[0] <= values[1]
    if not ordered or not isinstance(log, bool) or (log and values[0] <= 0) or not stepped:
        raise ValueError(
            f"Expected numbers low <= high for {name}; log=True only above 0; a step above 0, "
            f"whole where low and high are, only without log. Received: {name}={space!r:.200}"
        )


def _whole(space: Mapping[str, Any]) -> bool:
    return isinstance(space["low"], int) and isinstance(space["high"], int)
