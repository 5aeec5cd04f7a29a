"""`python -m tfnode.study configs/study.py --out=DIR`: models by seeds, with mean and spread.

Every model and seed is an experiment in a process and a run directory of its own,
`DIR/runs/MODEL-SEED`. Called again, what is finished stays, what was broken off is resumed, and
the figures and tables are made anew from the files. One that fails is reported and stops no
other. TensorFlow is loaded by those processes alone.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import signal
import statistics
import sys
import time

from tfnode import cell, config_file, history_file, plots, run_dir, settings
from tfnode.report import markdown
from tfnode.reproduce.command import at_least, folder, spread

RUNS = "runs"
RESULTS = "results.json"
TABLE = "table.md"


def _measures(score):
    """Name in the results: heading and digits in the table, and by what it is multiplied there."""
    percent = ("test accuracy, %", 2, 100.0)
    return {
        f"test_{score}": percent if score == "accuracy" else (f"test {plots.label(score)}", 4, 1.0),
        "test_loss": ("test loss", 4, 1.0),
        "nfe_forward": ("NFE forward", 1, 1.0),
        "nfe_backward": ("NFE backward", 1, 1.0),
        "seconds_per_epoch": ("seconds an epoch", 1, 1.0),
        "peak_memory_mib": ("peak memory, MiB", 0, 1.0),
    }


def _figures(score, split):
    """File of a figure: its columns of the history, one axis each, and their names."""
    title = plots.label(score)
    return {
        "loss": {"loss": "training loss", "val_loss": f"{split} loss"},
        score: {score: f"training {title}", f"val_{score}": f"{split} {title}"},
        "nfe": {"nfe_forward": "NFE forward", "nfe_backward": "NFE backward"},
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One experiment of a study.

    Attributes:
        model: Its name in the study.
        seed: Of the experiment.
        settings: A nested dict.
        path: The run directory.
        log: What its process printed.
    """

    model: str
    seed: int
    settings: dict
    path: pathlib.Path
    log: pathlib.Path


def main(arguments=None) -> int:
    """Runs the command; returns its exit status: 2 for a bad config, 1 if an experiment failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tfnode.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", help="file such as configs/study.py")
    parser.add_argument(
        "--out", type=folder, required=True, metavar="DIR", help="folder for runs and results"
    )
    parser.add_argument("--jobs", type=at_least(1), default=1, help="processes at the same time")
    parser.add_argument("--data_dir", help="folder of MNIST's files")
    options = parser.parse_args(arguments)
    out = pathlib.Path(options.out)
    # Else the processes of the experiments would outlive this one.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    cells = None
    try:
        cells = read_cells(options.config, out)
        cell.check_data([c.settings for c in cells], options.data_dir)
        states = {c: _state(c) for c in cells}
        run_dir.make_folder(out / RUNS)
        failures = {c: f"diverged; see {c.log}" for c in cells if states[c] == cell.DIVERGED}
        left = [c for c in cells if states[c] in (cell.NEW, cell.BEGUN)]
        print(f"{len(cells)} experiments, {len(left)} of them to do", flush=True)
        failures |= train(left, options.jobs, options.data_dir)
        for path in write_results(cells, failures, out):
            print(f"wrote {path}")
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if cells is None or isinstance(error, run_dir.OtherSettings) else 1
    except KeyboardInterrupt:
        return 130
    return 1 if failures else 0


def _state(item):
    return cell.state(item.path, item.settings)


def read_cells(path, out) -> list[Cell]:
    """The experiments that a config file describes, by seed, then model.

    Args:
        path: A file whose `get_config()` returns a dict of `models`, names to configs of
            experiments, and `seeds`, a tuple or list.
        out: Folder of the study.

    Raises:
        ValueError: If the file or a setting in it is not right.
    """
    config = config_file.load(path, {"models": dict, "seeds": (tuple, list)}, others=False)
    seeds = config["seeds"]
    if not seeds or any(seed in seeds[:i] for i, seed in enumerate(seeds)):
        raise ValueError(f"Expected one or more different seeds. Received: seeds={seeds!r}")
    cells = []
    # A seed of every model first, so that they can be compared early.
    for seed in seeds:
        for name, experiment in config["models"].items():
            try:
                chosen = config_file.override(experiment, {"name": name, "seed": seed})
                settings.check(chosen)
            except ValueError as error:
                raise ValueError(f"Model {name!r} of {path}: {error}") from error
            run = pathlib.Path(out, RUNS, f"{name}-{seed}")
            cells.append(Cell(name, seed, chosen, run, run.with_name(f"{name}-{seed}.log")))
    if not cells:
        raise ValueError(f"Expected one or more models. Received: models={config['models']!r}")
    return cells


def train(cells, jobs=1, data_dir=None) -> dict:
    """Trains cells, some at the same time; returns those that failed, with the reason."""
    waiting, running, failures = collections.deque(cells), {}, {}
    threads = None if jobs == 1 else max(1, (os.cpu_count() or 1) // jobs)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                item = waiting.popleft()
                print(f"{item.path}: {_state(item)}, training", flush=True)
                process = cell.start(item.path, item.settings, item.log, data_dir, threads)
                running[item] = process
            time.sleep(0.2)
            for item, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[item]
                if process.returncode:
                    failures[item] = cell.failure(process, item.log)
                print(f"{item.path}: {failures.get(item, 'finished')}", flush=True)
    finally:
        for process in running.values():
            cell.stop(process)
    return failures


def write_results(cells, failures, out) -> list[pathlib.Path]:
    """Writes the table, the figures and `results.json` of the cells that are finished.

    Args:
        cells: All of the study.
        failures: Cell to the reason why it is not finished.
        out: Folder of the study.

    Returns:
        The paths written.

    Raises:
        RunError: If a run cannot be read.
    """
    done = [c for c in cells if c not in failures]
    histories = {c: history_file.read_history(c.path / run_dir.HISTORY) for c in done}
    scores = {history_file.score_of(history) for history in histories.values()}
    if len(scores) > 1:
        raise run_dir.RunError(f"Expected models of one score. Received: {', '.join(scores)}")
    score = scores.pop() if scores else "accuracy"
    rows = [_row(c, score, histories[c][-1]) for c in done]
    models = {
        name: _model(name, score, cells, [row for row in rows if row["model"] == name])
        for name in dict.fromkeys(c.model for c in cells)
    }
    written = [out / TABLE]
    with run_dir.replacing(out / TABLE) as temporary:
        temporary.write_text(_table(models, score, failures), encoding="utf-8")
    held_out = {"validation" if c.settings.get("validation") else "test" for c in cells}
    for name, columns in _figures(score, " or ".join(sorted(held_out))).items():
        figure, axes = plots.new_figure(columns=len(columns))
        for axis, (column, label) in zip(axes, columns.items()):
            curves = {
                model: [plots.column(histories[c], column) for c in done if c.model == model]
                for model in models
            }
            curves = {k: runs for k, runs in curves.items() if any(epochs for epochs, _ in runs)}
            plots.draw_bands(axis, curves, label)
        written.append(out / f"{name}.png")
        plots.save(figure, written[-1])
    written.append(out / RESULTS)
    failed = {f"{c.model}-{c.seed}": reason for c, reason in failures.items()}
    run_dir.write_json(written[-1], {"models": models, "runs": rows, "failed": failed})
    return written


def _row(item, score, last):
    """What is known of one finished cell."""
    metrics = run_dir.read_json(item.path / run_dir.METRICS)
    record = run_dir.read_record(item.path)
    # With a validation split the history is of that, and the test set is looked at in the end.
    test = metrics.get("test") or {"loss": last["val_loss"], score: last[f"val_{score}"]}
    return {
        "model": item.model,
        "seed": item.seed,
        **{name: metrics[name] for name in ("dataset", "parameters", "epochs")},
        **{f"test_{name}": test[name] for name in (score, "loss")},
        **{name: last[name] for name in (score, "nfe_forward", "nfe_backward")},
        "seconds_per_epoch": metrics["median_seconds_per_epoch"],
        "peak_memory_mib": metrics.get("peak_memory_mib"),
        **{name: record.get(name) for name in ("device", "git_commit", "versions")},
    }


def _model(name, score, cells, rows):
    """The settings of one model, and the mean and standard deviation of its finished cells."""
    found = next(c.settings for c in cells if c.model == name)
    summary = {
        "settings": {k: v for k, v in found.items() if k != "seed"},
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


def _table(models, score, failures):
    """The table in Markdown, with what failed below it."""
    measures = _measures(score)
    lines = [["model", "seeds", "parameters", *(heading for heading, _, _ in measures.values())]]
    for name, summary in models.items():
        parameters = summary["parameters"]
        line = [name, str(len(summary["seeds"])), "-" if parameters is None else f"{parameters:,}"]
        for measure, (_, digits, factor) in measures.items():
            values = [factor * value for value in summary[measure]["values"]]
            line.append(spread(values, digits) if values else "-")
        lines.append(line)
    text = markdown(lines)
    for item, reason in failures.items():
        text += f"\nNot in the table: {item.model}, seed {item.seed}: {reason}\n"
    return text


if __name__ == "__main__":
    sys.exit(main())
