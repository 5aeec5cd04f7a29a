"""The table of a report: a row for each run, and the means over runs of one kind."""

import json
import math
import pathlib
import statistics
from typing import Any

from tfnode.files import plots
from tfnode.files.history import Row, best_row, median_seconds, score_of, score_text
from tfnode.runs.errors import RunError
from tfnode.runs.files import read_json
from tfnode.runs.tables import markdown


def _columns(score: str) -> dict[str, str]:
    """Return the name of each column of the table with its title."""
    title = plots.label(score)
    return {
        "run": "run",
        "dataset": "data",
        "parameters": "parameters",
        "epochs": "epochs",
        score: f"training {title}",
        f"val_{score}": f"test {title}",
        f"best_val_{score}": f"best test {title}",
        **({"largest_gap": "largest gap"} if score == "accuracy" else {}),
        "seconds_per_epoch": "seconds an epoch",
        "nfe_forward": "NFE forward",
        "nfe_backward": "NFE backward",
    }


def read_metrics(path: pathlib.Path) -> dict[str, Any]:
    """Return the metrics of a run; `name`, `dataset` and `parameters` may be `None`."""
    metrics = read_json(path)
    for name, kind in (("name", str), ("dataset", str), ("parameters", int)):
        value = metrics.setdefault(name, None)
        if value is not None and type(value) is not kind:
            raise RunError(
                f"{name} must be of type {kind.__name__} in {path}. Received: {name}={value!r:.100}"
            )
    test = metrics.get("test")
    if test is not None and not (
        isinstance(test, dict) and all(isinstance(v, float) for v in test.values())
    ):
        raise RunError(f"test must hold numbers in {path}. Received: test={test!r:.100}")
    return metrics


def row_of(label: str, rows: list[Row], metrics: dict[str, Any]) -> dict[str, Any]:
    """Return one row of the table."""
    # Neither JSON nor a maximum has a use for what a run that diverged holds.
    rows = [{name: _finite(value) for name, value in row.items()} for row in rows]
    last = rows[-1]
    score, best = score_of(rows), best_row(rows)
    result = {
        "run": label,
        "name": metrics["name"],
        "dataset": metrics["dataset"],
        "parameters": metrics["parameters"],
        "epochs": len(rows),
        "interrupted": bool(metrics.get("interrupted")),
        score: last[score],
        f"val_{score}": last[f"val_{score}"],
        f"best_val_{score}": best and best[f"val_{score}"],
        "seconds_per_epoch": median_seconds(rows),
        "nfe_forward": last["nfe_forward"],
        "nfe_backward": last["nfe_backward"],
    }
    if score == "accuracy":
        gaps = [
            row["accuracy"] - row["val_accuracy"]
            for row in rows
            if row["accuracy"] is not None and row["val_accuracy"] is not None
        ]
        # In points: how far testing falls below training in the worst epoch.
        result["largest_gap"] = _finite(max(gaps, default=None))
    if "test" in metrics:
        # The history of such a run has the validation split. The test set was looked at once.
        result[f"val_{score}"] = (metrics["test"] or {}).get(score)
        result[f"best_val_{score}"] = result["largest_gap"] = None
    return result


def read_settings(path: pathlib.Path) -> tuple[str, Any]:
    """Return the settings without the seed as text, and the seed; both alike without a record."""
    settings = read_json(path).get("settings") if path.exists() else None
    seed = None
    if isinstance(settings, dict):
        seed = settings.get("seed")
        settings = {name: value for name, value in settings.items() if name != "seed"}
    return json.dumps(settings, sort_keys=True), seed


def means_of(
    table: list[dict[str, Any]], settings: list[str], seeds: list[Any], score: str
) -> list[dict[str, Any]]:
    """Return the means over runs that differ in their seeds alone.

    A seed that occurs twice says nothing of the spread. Such runs have no mean.

    Returns:
        A list of dicts: the number of `runs`, their common values, and for each score its mean
        and sample standard deviation, `None` where a run lacks the score.
    """
    groups: dict[tuple[Any, ...], list[tuple[Any, dict[str, Any]]]] = {}
    for row, chosen, seed in zip(table, settings, seeds):
        if row["name"] is not None:
            key = tuple(row[name] for name in ("name", "dataset", "parameters", "epochs"))
            groups.setdefault((*key, chosen), []).append((seed, row))
    means = []
    for (name, dataset, parameters, epochs, _), found in groups.items():
        rows = [row for _, row in found]
        if len(rows) == 1 or len({json.dumps(seed) for seed, _ in found}) < len(rows):
            continue
        mean = {"name": name, "dataset": dataset, "parameters": parameters, "epochs": epochs}
        mean["runs"] = len(rows)
        for column in (score, f"val_{score}"):
            values = [row[column] for row in rows]
            complete = None not in values
            mean[column] = statistics.fmean(values) if complete else None
            mean[f"{column}_deviation"] = statistics.stdev(values) if complete else None
        means.append(mean)
    return means


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def in_markdown(table: list[dict[str, Any]], means: list[dict[str, Any]], score: str) -> str:
    """Return the table in Markdown."""
    columns = _columns(score)

    def cell(name: str, value: Any, interrupted: bool = False) -> str:
        if value is None:
            return "-"
        if name == "epochs" and interrupted:
            return f"{value}, interrupted"
        if name == "largest_gap":
            return f"{100 * value:.2f} points"
        if name.endswith(score):
            return score_text(score, value)
        if name in ("seconds_per_epoch", "nfe_forward", "nfe_backward"):
            return f"{value:.4g}"
        text = f"{value:,}" if isinstance(value, int) else " ".join(str(value).splitlines())
        return text.replace("|", "\\|")

    lines = [list(columns.values())]
    lines += [[cell(name, row[name], row["interrupted"]) for name in columns] for row in table]
    for mean in means:
        line = {name: cell(name, mean.get(name)) for name in columns}
        line["run"] = cell("run", f"{mean['name']}: mean of {mean['runs']}")
        for name in (score, f"val_{score}"):
            if mean[name] is not None:
                line[name] += f" ± {score_text(score, mean[f'{name}_deviation'])}"
        lines.append(list(line.values()))
    return markdown(lines)
