"""`python -m tfnode.report RUN_DIR... --out DIR`: curves of any runs, overlaid.

Writes the paper's four figures (training and testing, loss and accuracy) and a table in
Markdown and JSON; for runs on time series with RMSE in place of accuracy. Several runs of one name,
such as those of several seeds, have a row with their mean and standard deviation. Reads files
only, and imports no TensorFlow.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys

from tfnode import plots
from tfnode.history_file import best_row, median_seconds, read_history, score_of, score_text
from tfnode.run_dir import (
    CONFIG,
    HISTORY,
    METRICS,
    RunError,
    make_folder,
    read_json,
    replacing,
    write_json,
)


def _figures(score):
    """Name of each figure to the column of the history that it shows."""
    return {
        "training_loss": "loss",
        f"training_{score}": score,
        "testing_loss": "val_loss",
        f"testing_{score}": f"val_{score}",
    }


def _columns(score):
    """Name of each column of the table to its title."""
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


def main(arguments=None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.report", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run directories to compare")
    parser.add_argument("--out", default="report", metavar="DIR", help="folder for the report")
    options = parser.parse_args(arguments)
    try:
        paths = write_report(options.runs, options.out)
    except (RunError, OSError) as error:
        print(_text(f"report: {' '.join(str(error).splitlines())}"), file=sys.stderr)
        return 1
    print(_text("wrote " + ", ".join(str(p) for p in paths)))
    return 0


def _text(text):
    """Names of files are bytes, which need not be text."""
    return text.encode(errors="replace").decode()


def write_report(runs: list, out) -> list[pathlib.Path]:
    """Writes the figures and tables of `runs` into the folder `out`.

    Args:
        runs: Paths of run directories.
        out: Path of a folder; it is made where it is missing.

    Returns:
        The paths written.

    Raises:
        RunError: If a run cannot be read, or holds no epoch, or runs are judged by different
            scores; nothing is written then.
    """
    histories, table, settings, split = {}, [], [], set()
    for label, run in zip(_labels(runs), runs):
        folder = pathlib.Path(run)
        if not folder.is_dir():
            raise RunError(f"Expected a run directory. Received: {run}")
        histories[label] = read_history(folder / HISTORY)
        if not histories[label]:
            raise RunError(f"{folder / HISTORY} holds no epoch yet: train for one first.")
        metrics = _metrics(folder / METRICS)
        table.append(_row(label, histories[label], metrics))
        settings.append(_settings(folder / CONFIG))
        if "test" in metrics:
            split.add(label)
    scores = {label: score_of(rows) for label, rows in histories.items()}
    score = next(iter(scores.values()))
    if set(scores.values()) != {score}:
        raise RunError(f"Expected runs of one score, accuracy or rmse. Received: {scores}")

    if not str(out):
        raise RunError("Expected the path of a folder. Received: --out=''")
    out = pathlib.Path(out)
    make_folder(out)
    written = []
    for figure_name, name in _figures(score).items():
        figure, (axis,) = plots.new_figure()
        curves = {
            label + (" (validation split)" if label in split and name.startswith("val_") else ""): (
                plots.column(rows, name)
            )
            for label, rows in histories.items()
        }
        plots.draw_curves(axis, curves, plots.label(figure_name))
        written.append(out / f"{figure_name}.png")
        plots.save(figure, written[-1])
    means = _means(table, settings, score)
    written.append(out / "table.md")
    with replacing(written[-1]) as temporary:
        temporary.write_text(_text(_markdown(table, means, score)), encoding="utf-8")
    written.append(out / "table.json")
    write_json(written[-1], {"runs": table, "means": means})
    return written


def _labels(runs):
    """The last parts of the paths, with as many more as make them differ."""
    parts = [pathlib.Path(run).resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = [_text("/".join(p[-depth:])) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    raise RunError(f"Expected different run directories. Received: {' '.join(map(str, runs))}")


def _metrics(path):
    """What only the metrics know: `name`, `dataset`, `parameters`; `None` where it is missing."""
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


def _row(label, rows, metrics):
    """One row of the table, from the history and the metrics."""
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
        # Of a run that held out a validation split, which is what its history has. The test
        # set was looked at once.
        result[f"val_{score}"] = (metrics["test"] or {}).get(score)
        result[f"best_val_{score}"] = result["largest_gap"] = None
    return result


def _settings(path):
    """What tells runs apart beside the seed, as text; the same for all that have no record."""
    settings = read_json(path).get("settings") if path.exists() else None
    if isinstance(settings, dict):
        settings = {name: value for name, value in settings.items() if name != "seed"}
    return json.dumps(settings, sort_keys=True)


def _means(table, settings, score):
    """The runs that differ in their seeds alone, where there are several.

    Returns:
        A list of dicts: `runs`, their number, and for each score its mean and sample standard
        deviation, `None` where a run lacks it; and what they have in common.
    """
    groups = {}
    for row, chosen in zip(table, settings):
        if row["name"] is not None:
            key = tuple(row[name] for name in ("name", "dataset", "parameters", "epochs"))
            groups.setdefault((*key, chosen), []).append(row)
    means = []
    for (name, dataset, parameters, epochs, _), rows in groups.items():
        if len(rows) == 1:
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


def _finite(value):
    return value if value is not None and math.isfinite(value) else None


def _markdown(table, means, score):
    """The table in Markdown."""
    columns = _columns(score)

    def cell(name, value):
        if value is None:
            return "-"
        if name == "largest_gap":
            return f"{100 * value:.2f} points"
        if name.endswith(score):
            return score_text(score, value)
        if name in ("seconds_per_epoch", "nfe_forward", "nfe_backward"):
            return f"{value:.4g}"
        text = f"{value:,}" if isinstance(value, int) else " ".join(str(value).splitlines())
        return text.replace("|", "\\|")

    lines = [list(columns.values())]
    lines += [[cell(name, row[name]) for name in columns] for row in table]
    for mean in means:
        line = {name: cell(name, mean.get(name)) for name in columns}
        line["run"] = cell("run", f"{mean['name']}: mean of {mean['runs']}")
        for name in (score, f"val_{score}"):
            if mean[name] is not None:
                line[name] += f" ± {score_text(score, mean[f'{name}_deviation'])}"
        lines.append(list(line.values()))
    return markdown(lines)


def markdown(lines):
    """A table in Markdown of lists of strings, the first of which are the columns."""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
