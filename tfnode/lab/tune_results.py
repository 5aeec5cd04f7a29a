"""The results of a search: the trials, the best settings, and a figure."""

import pathlib
import shlex
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfnode.files import plots, style
from tfnode.lab.search_space import SearchSpace
from tfnode.runs.files import write_json, write_text
from tfnode.runs.tables import markdown

RESULTS = "results.json"
BEST = "best.json"
TABLE = "table.md"
FIGURE = "tuning.png"


def write_results(
    study: Any, done: list[Any], space: SearchSpace, out: pathlib.Path
) -> list[pathlib.Path]:
    """Write the trials, the best of them, the importance of settings, and a figure.

    Returns:
        The paths written.

    Raises:
        ValueError: If no trial was finished.
    """
    from optuna.trial import TrialState

    config = space.config
    complete = study.get_trials(states=[TrialState.COMPLETE])
    if not complete:
        raise ValueError(f"No trial was finished. See the .log files in {out}/runs.")
    best, importances = study.best_trial, _importances(study, complete, config["seed"])
    # The best settings are for training on all of the training set.
    final = {**config["settings"], **best.params, "validation": 0.0}
    flags = [f"--config.{k}={v}" for k, v in final.items()]
    found = {
        "trial": best.number,
        "validation_accuracy": best.value,
        "params": best.params,
        "settings": space.settings(final).to_dict(),
        "command": shlex.join(["python", "train.py", f"--model={config['model']}", *flags]),
    }
    write_json(out / BEST, found)
    trials = [
        {
            "trial": t.number,
            "state": t.state.name.lower(),
            "params": t.params,
            "validation_accuracy": list(t.intermediate_values.values()),
            **t.user_attrs,
        }
        for t in done
    ]
    results = {"best": found, "importances": importances, "trials": trials, "config": config}
    write_json(out / RESULTS, results)
    write_text(out / TABLE, _table(config, importances, trials))
    plots.save(_figure(trials, config, importances), out / FIGURE)
    return [out / name for name in (BEST, RESULTS, TABLE, FIGURE)]


def _importances(study: Any, complete: list[Any], seed: int) -> dict[str, float]:
    """Return by how much each setting explains the accuracies (fANOVA); they add up to 1."""
    import optuna

    if len({t.value for t in complete}) < 2:
        return {}  # There is nothing to explain.
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _table(
    config: dict[str, Any], importances: dict[str, float], trials: list[dict[str, Any]]
) -> str:
    """Return the trials in Markdown, the best first; the importances stand below the names."""
    names = list(config["search"])
    lines = [["trial", "epochs", "validation accuracy", *names]]
    shares = [f"{importances[n]:.2f}" if n in importances else "-" for n in names]
    lines.append(["importance", "", "", *shares])

    def rank(trial: dict[str, Any]) -> tuple[bool, float]:
        return trial["state"] != "complete", -max(trial["validation_accuracy"][-1:], default=0.0)

    for t in sorted(trials, key=rank):
        values = t["validation_accuracy"]
        last = f"{100 * values[-1]:.2f} %" if values else "-"
        mark = {"complete": "", "pruned": ", stopped", "fail": ", failed"}[t["state"]]
        params = [short(t["params"].get(name)) for name in names]
        lines.append([str(t["trial"]), f"{len(values)}{mark}", last, *params])
    return markdown(lines)


def _figure(
    trials: list[dict[str, Any]], config: dict[str, Any], importances: dict[str, float]
) -> Figure:
    """Draw the trials and the best so far, the importances, and the most important setting."""
    title = plots.origin([config["model"], config["settings"].get("dataset")], [config["seed"]])
    figure, (left, middle, right) = plots.new_figure(title, columns=3, height=3.2)
    top = max(importances, key=lambda name: importances[name], default=next(iter(config["search"])))
    space = config["search"][top]
    handles: dict[str, Any] = {}
    for state, color, label in (
        ("complete", style.BLUE, "finished"),
        ("pruned", style.GRAY, "stopped early"),
    ):
        found = [t for t in trials if t["state"] == state]
        values = [t["validation_accuracy"][-1] for t in found]
        look: dict[str, Any] = {"color": color, "s": 16, "zorder": 3}
        handles[label] = left.scatter([t["trial"] for t in found], values, **look)
        shown = [t["params"][top] for t in found]
        right.scatter([str(x) for x in shown] if "choices" in space else shown, values, **look)
    complete = [t for t in trials if t["state"] == "complete"]
    best = np.maximum.accumulate([t["validation_accuracy"][-1] for t in complete])
    (handles["best so far"],) = left.step(
        [t["trial"] for t in complete], best, where="post", color=style.RED
    )
    for axis, xlabel in ((left, "trial"), (right, top)):
        axis.set(xlabel=xlabel, ylabel="validation accuracy, %")
        style.percent(axis)
    plots.same_limits([left, right])
    if "choices" in space:
        right.margins(x=0.15)
    names = sorted(importances, key=lambda name: importances[name])
    middle.barh(names, [importances[n] for n in names], color=style.SKY)
    middle.set(xlabel="importance (fANOVA)")
    if space.get("log"):  # Setting any scale drops the names of choices from the axis.
        right.set_xscale("log")
    for axis in (left, middle, right):
        style.grid(axis)
    plots.legend(figure, handles, columns=3)
    return figure


def short(value: Any) -> str:
    """Return a value of a setting as short text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
