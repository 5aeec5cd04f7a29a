"""The table, the figures and the numbers of a study, from the files of its runs."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfnode.files import plots
from tfnode.files.history import Row, read_history, score_of
from tfnode.runs import contents
from tfnode.runs.errors import RunError
from tfnode.runs.files import read_json, write_json, write_text
from tfnode.runs.record import read_record
from tfnode.runs.tables import markdown, spread

if TYPE_CHECKING:
    from tfnode.lab.study import Cell

RESULTS = "results.json"
TABLE = "table.md"


def write_results(
    cells: Sequence["Cell"], failures: Mapping["Cell", str], out: pathlib.Path
) -> list[pathlib.Path]:
    """Write the table, the figures and `results.json` of the cells that are finished.

    Args:
        cells: All of the study.
        failures: The cells that are not finished, each with the reason.
        out: Folder of the study.

    Returns:
        The paths written.

    Raises:
        FileError: If a run cannot be read.
    """
    failed = {cell.name: reason for cell, reason in failures.items()}
    done = [cell for cell in cells if cell.name not in failed]
    histories = {c.name: read_history(c.experiment.path / contents.HISTORY) for c in done}
    scores = {score_of(history) for history in histories.values()}
    if len(scores) > 1:
        raise RunError(f"Expected models of one score. Received: {', '.join(scores)}")
    score = scores.pop() if scores else "accuracy"
    rows = [_row(cell, score, histories[cell.name][-1]) for cell in done]
    models = {
        name: _model(name, score, cells, [row for row in rows if row["model"] == name])
        for name in dict.fromkeys(cell.model for cell in cells)
    }
    # A model that gives every sample the same class belongs beside all others.
    constants = {row["dataset"]: row["constant"] for row in rows if row["constant"] is not None}
    written = [out / TABLE]
    write_text(out / TABLE, _table(models, constants, score, failures))
    held_out = {"validation" if cell.experiment.settings.validation else "test" for cell in cells}
    title = plots.origin([row["dataset"] for row in rows], [row["seed"] for row in rows])
    for name, columns in _figures(score, " or ".join(sorted(held_out))).items():
        figure, axes = plots.new_figure(title, columns=len(columns), sharey=True)
        handles: dict[str, Any] = {}
        for axis, (column, label) in zip(axes, columns.items()):
            curves = {
                model: [plots.column(histories[c.name], column) for c in done if c.model == model]
                for model in models
            }
            curves = {k: runs for k, runs in curves.items() if any(epochs for epochs, _ in runs)}
            handles |= plots.draw_bands(axis, curves, label)
        plots.legend(figure, handles)
        written.append(out / f"{name}.png")
        plots.save(figure, written[-1])
    written.append(out / RESULTS)
    results = {"models": models, "constants": constants, "runs": rows, "failed": failed}
    write_json(written[-1], results)
    return written


def _row(cell: "Cell", score: str, last: Row) -> dict[str, Any]:
    """Return the numbers of one finished cell."""
    path = cell.experiment.path
    metrics, record = read_json(path / contents.METRICS), read_record(path)
    # With a validation split the history has that, and the metrics have the test set.
    test = metrics.get("test") or {"loss": last["val_loss"], score: last[f"val_{score}"]}
    return {
        "model": cell.model,
        "seed": cell.seed,
        **{name: metrics[name] for name in ("dataset", "parameters", "epochs")},
        **{f"test_{name}": test[name] for name in (score, "loss")},
        **{name: last[name] for name in (score, "nfe_forward", "nfe_backward")},
        "constant": metrics.get("constant_score"),
        "seconds_per_epoch": metrics["median_seconds_per_epoch"],
        "peak_memory_mib": metrics.get("peak_memory_mib"),
        **{name: record.get(name) for name in ("device", "git_commit", "versions")},
    }


def _model(
    name: str, score: str, cells: Sequence["Cell"], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the settings of a model, and mean and standard deviation of its finished cells."""
    settings = next(cell.experiment.settings for cell in cells if cell.model == name).to_dict()
    summary = {
        "settings": {k: v for k, v in settings.items() if k != "seed"},
        "seeds": [row["seed"] for row in rows],
        "parameters": rows[0]["parameters"] if rows else None,
    }
    for measure in _measures(score):
        values = [row[measure] for row in rows if row[measure] is not None]
        summary[measure] = {
            "values": values,
            "mean": statistics.fmean(values) if values else None,
            "sd": statistics.stdev(values) if len(values) > 1 else None,
        }
    return summary


def _table(
    models: Mapping[str, dict[str, Any]],
    constants: Mapping[str, float],
    score: str,
    failures: Mapping["Cell", str],
) -> str:
    """Return the table in Markdown, with the failures below it."""
    measures = _measures(score)
    lines = [["model", "seeds", "parameters", *(heading for heading, _, _ in measures.values())]]
    for name, summary in models.items():
        parameters = summary["parameters"]
        line = [name, str(len(summary["seeds"])), "-" if parameters is None else f"{parameters:,}"]
        for measure, (_, digits, factor) in measures.items():
            values = [factor * value for value in summary[measure]["values"]]
            line.append(spread(values, digits) if values else "-")
        lines.append(line)
    for dataset, value in constants.items():
        name = "most frequent class" + (f" of {dataset}" if len(constants) > 1 else "")
        lines.append([name, "-", "0", f"{100 * value:.2f}", *["-"] * (len(measures) - 1)])
    text = markdown(lines)
    for cell, reason in failures.items():
        text += f"\nNot in the table: {cell.model}, seed {cell.seed}: {reason}\n"
    return text


def _measures(score: str) -> dict[str, tuple[str, int, float]]:
    """Return names in the results: heading, digits and factor in the table."""
    percent = ("test accuracy, %", 2, 100.0)
    return {
        f"test_{score}": percent if score == "accuracy" else (f"test {plots.label(score)}", 4, 1.0),
        "test_loss": ("test loss", 4, 1.0),
        "nfe_forward": ("NFE forward", 1, 1.0),
        "nfe_backward": ("NFE backward", 1, 1.0),
        "seconds_per_epoch": ("seconds an epoch", 1, 1.0),
        "peak_memory_mib": ("peak memory, MiB", 0, 1.0),
    }


def _figures(score: str, split: str) -> dict[str, dict[str, str]]:
    """Return the files of figures: columns of the history, one axis each, with their names."""
    title = plots.label(score)
    return {
        "loss": {"loss": "training loss", "val_loss": f"{split} loss"},
        score: {score: f"training {title}", f"val_{score}": f"{split} {title}"},
        "nfe": {"nfe_forward": "NFE forward", "nfe_backward": "NFE backward"},
    }
