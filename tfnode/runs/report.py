"""The report of several runs: four figures and a table, from their files alone."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from tfnode.files import plots
from tfnode.files.history import Row, read_history, score_of
from tfnode.files.whole import replacing
from tfnode.runs import report_table
from tfnode.runs.contents import CONFIG, HISTORY, METRICS, holds_run
from tfnode.runs.errors import RunError
from tfnode.runs.files import make_folder, write_json

Path = str | os.PathLike[str]


def write_report(runs: Sequence[Path], out: Path) -> list[pathlib.Path]:
    """Write the figures and tables of `runs` into the folder `out`.

    Args:
        runs: Paths of run directories.
        out: Path of a folder; it is made where it is missing.

    Returns:
        The paths written.

    Raises:
        FileError: If a run cannot be read, or is not finished, or runs are judged by different
            scores; nothing is written then.
    """
    histories: dict[str, list[Row]] = {}
    table, settings, seeds, split = [], [], [], set()
    for label, run in zip(_labels(runs), runs):
        folder = pathlib.Path(run)
        if not folder.is_dir():
            missing = "" if folder.exists() else ", which does not exist"
            raise RunError(f"Expected a run directory. Received: {run}{missing}")
        unfinished = not all((folder / name).exists() for name in (HISTORY, METRICS))
        if unfinished and holds_run(folder):
            raise RunError(
                f"The run in {run} is not finished. Go on with --resume, or leave it out."
            )
        histories[label] = read_history(folder / HISTORY)
        if not histories[label]:
            raise RunError(f"{folder / HISTORY} holds no epoch yet: train for one first.")
        metrics = report_table.read_metrics(folder / METRICS)
        table.append(report_table.row_of(label, histories[label], metrics))
        chosen, seed = report_table.read_settings(folder / CONFIG)
        settings.append(chosen)
        seeds.append(seed)
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
    datasets = {row["run"]: row["dataset"] for row in table}
    mixed = len(set(datasets.values())) > 1
    title = plots.origin(datasets.values(), seeds)
    drawn = {}
    for figure_name, name in _figures(score).items():
        figure, (axis,) = plots.new_figure(title)
        curves = {
            label
            + (f" on {datasets[label]}" if mixed else "")
            + (" (validation split)" if label in split and name.startswith("val_") else ""): (
                plots.column(rows, name)
            )
            for label, rows in histories.items()
        }
        plots.legend(figure, plots.draw_curves(axis, curves, plots.label(figure_name)))
        drawn[figure_name] = figure, axis
    for measure in ("loss", score):
        plots.same_limits([drawn[f"{part}_{measure}"][1] for part in ("training", "testing")])
    for figure_name, (figure, _) in drawn.items():
        written.append(out / f"{figure_name}.png")
        plots.save(figure, written[-1])
    means = report_table.means_of(table, settings, seeds, score)
    written.append(out / "table.md")
    with replacing(written[-1]) as temporary:
        temporary.write_text(
            printable(report_table.in_markdown(table, means, score)), encoding="utf-8"
        )
    written.append(out / "table.json")
    write_json(written[-1], {"runs": table, "means": means})
    return written


def remarks(table: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a reader of the table must know, in sentences; `table` is that of the JSON."""
    datasets: dict[str, list[str]] = {}
    for row in table:
        datasets.setdefault(str(row["dataset"]), []).append(row["run"])
    if len(datasets) < 2:
        return []
    each = "; ".join(f"{name}: {', '.join(runs)}" for name, runs in datasets.items())
    return [f"The runs are on different data, so their scores cannot be compared. {each}."]


def printable(text: str) -> str:
    """Return text that can be printed; names of files are bytes, which need not be text."""
    return text.encode(errors="replace").decode()


def _figures(score: str) -> dict[str, str]:
    """Return the name of each figure with the column of the history that it shows."""
    return {
        "training_loss": "loss",
        f"training_{score}": score,
        "testing_loss": "val_loss",
        f"testing_{score}": f"val_{score}",
    }


def _labels(runs: Sequence[Path]) -> list[str]:
    """Return the last parts of the paths, as many as make them differ."""
    parts = [pathlib.Path(run).resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = [printable("/".join(p[-depth:])) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    raise RunError(f"Expected different run directories. Received: {' '.join(map(str, runs))}")
