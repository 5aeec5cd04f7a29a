"""`python -m tfnode.tune configs/tune.py --out=DIR`: settings chosen on a validation split.

Optuna proposes settings, each trial is an experiment in a process and a run directory of its
own, `DIR/runs/trial-N`, and those that fall behind the median at the same epoch are stopped.
They are judged by their accuracy on a part of the training set; the test set has no part.
Called again, the search goes on where it was. TensorFlow is loaded by those processes alone.
"""

import argparse
import json
import pathlib
import shlex
import signal
import sys
import time

from tfnode import cell, config_file, history_file, plots, run_dir, settings
from tfnode.report import markdown
from tfnode.reproduce.command import folder
from tfnode.search_space import optional, read_config, suggest

JOURNAL = "optuna.log"
RUNS = "runs"
RESULTS = "results.json"
BEST = "best.json"
TABLE = "table.md"
FIGURE = "tuning.png"
SCORE = "val_accuracy"


def main(arguments=None) -> int:
    """Runs the command; returns its exit status, 2 for a bad config."""
    parser = argparse.ArgumentParser(
        prog="python -m tfnode.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", help="file such as configs/tune.py")
    parser.add_argument(
        "--out", type=folder, required=True, metavar="DIR", help="folder for runs and results"
    )
    parser.add_argument("--data_dir", help="folder of MNIST's files")
    options = parser.parse_args(arguments)
    out = pathlib.Path(options.out)
    # Else the process of a trial would outlive this one.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    config = None
    try:
        config, base = read_config(options.config)
        cell.check_data([base], options.data_dir)
        run_dir.make_folder(out / RUNS)
        study = _open(config, out)
        while (left := config["trials"] - len(_done(study))) > 0:
            print(f"{left} trials to do", flush=True)
            _try(study, config, base, out, options.data_dir)
        for path in write_results(study, config, base, out):
            print(f"wrote {path}")
    except ImportError as error:
        if error.name != "optuna":
            raise
        print(f"{parser.prog}: Optuna is missing: pip install -e '.[tuning]'", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if config is None or isinstance(error, run_dir.OtherSettings) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _open(config, out):
    """Optuna's study in a folder, new or gone on with."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(str(out / JOURNAL))),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
    )
    # Gone on with, the search shall not propose what it began with once more.
    study.sampler = optuna.samplers.TPESampler(seed=config["seed"] + len(study.trials))
    begun = json.dumps({k: v for k, v in config.items() if k != "trials"}, sort_keys=True)
    if study.user_attrs.setdefault("config", begun) != begun:
        raise run_dir.OtherSettings(
            f"The search in {out} was begun with another config; only trials may be raised. "
            f"Choose another --out. Expected {study.user_attrs['config']}. Received: {begun}"
        )
    study.set_user_attr("config", begun)
    # Killed in the middle of a trial, one begins it anew.
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _done(study):
    """The trials that count: finished, stopped early, or failed of their own."""
    states = ("COMPLETE", "PRUNED")
    return [t for t in study.trials if t.state.name in states or "failed" in t.user_attrs]


def _try(study, config, base, out, data_dir):
    """One trial."""
    from optuna.trial import TrialState

    trial = study.ask()
    params = {name: suggest(trial, name, space) for name, space in config["search"].items()}
    name = f"trial-{trial.number}"
    chosen = config_file.override(base, {"name": name, **params})
    path, log = out / RUNS / name, out / RUNS / f"{name}.log"
    print(f"{path}: {' '.join(f'{k}={_short(v)}' for k, v in params.items())}", flush=True)
    try:
        settings.check(chosen)
    except ValueError as error:
        # Each may be right, and not beside the others. Without an end the search would be stuck.
        trial.set_user_attr("failed", str(error))
        study.tell(trial, state=TrialState.FAIL)
        log.write_text(f"{error}\n")
        print(f"{path}: {error}", flush=True)
        return
    process, told = cell.start(path, chosen, log, data_dir), 0
    try:
        while True:
            ended = process.poll() is not None
            rows = _history(path)
            for row in rows[told:]:
                trial.report(row[SCORE], int(row["epoch"]))
            told = len(rows)
            if ended or (told and trial.should_prune()):
                break
            time.sleep(0.2)
    finally:
        if process.poll() is None:
            cell.stop(process)
    if not ended:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"{path}: stopped after epoch {told} at {rows[-1][SCORE]:.4f}", flush=True)
    elif process.returncode:
        reason = cell.failure(process, log)
        trial.set_user_attr("failed", reason)
        study.tell(trial, state=TrialState.FAIL)
        print(f"{path}: {reason}", flush=True)
    else:
        study.tell(trial, rows[-1][SCORE])
        print(f"{path}: {rows[-1][SCORE]:.4f}", flush=True)


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _history(path):
    """The epochs so far of a run that may have just begun."""
    file = path / run_dir.HISTORY
    return history_file.read_history(file) if file.exists() else []


def write_results(study, config, base, out) -> list[pathlib.Path]:
    """Writes the trials, the best of them, what mattered, and a figure.

    Returns:
        The paths written.

    Raises:
        ValueError: If no trial was finished.
    """
    from optuna.trial import TrialState

    complete = study.get_trials(states=[TrialState.COMPLETE])
    if not complete:
        raise ValueError(f"No trial was finished. See the .log files in {out / RUNS}.")
    best, importances = study.best_trial, _importances(study, config["seed"])
    # Trained on all of the training set.
    final = {**config["settings"], **best.params, "validation": 0.0}
    # What the solver's own value stands for by itself cannot be given.
    flags = [f"--config.{k}={v}" for k, v in final.items() if v is not None or not optional(k)]
    found = {
        "trial": best.number,
        "validation_accuracy": best.value,
        "params": best.params,
        "settings": config_file.override(base, final),
        "command": shlex.join(["python", "train.py", f"--model={config['model']}", *flags]),
    }
    run_dir.write_json(out / BEST, found)
    trials = [
        {
            "trial": t.number,
            "state": t.state.name.lower(),
            "params": t.params,
            "validation_accuracy": list(t.intermediate_values.values()),
            **t.user_attrs,
        }
        for t in _done(study)
    ]
    results = {"best": found, "importances": importances, "trials": trials, "config": config}
    run_dir.write_json(out / RESULTS, results)
    with run_dir.replacing(out / TABLE) as temporary:
        temporary.write_text(_table(config, importances, trials), encoding="utf-8")
    plots.save(_figure(study, config, importances), out / FIGURE)
    return [out / name for name in (BEST, RESULTS, TABLE, FIGURE)]


def _importances(study, seed):
    """By how much each setting explains the accuracies (fANOVA); they add up to 1."""
    import optuna

    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if len({t.value for t in complete}) < 2:
        return {}  # Nothing to explain.
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _table(config, importances, trials):
    """The trials in Markdown, the best first, and below the names how much each mattered."""
    names = list(config["search"])
    lines = [["trial", "epochs", "validation accuracy", *names]]
    shares = [f"{importances[n]:.2f}" if n in importances else "-" for n in names]
    lines.append(["importance", "", "", *shares])

    def rank(trial):
        return trial["state"] != "complete", -max(trial["validation_accuracy"][-1:], default=0.0)

    for t in sorted(trials, key=rank):
        values = t["validation_accuracy"]
        last = f"{100 * values[-1]:.2f} %" if values else "-"
        mark = {"complete": "", "pruned": ", stopped", "fail": ", failed"}[t["state"]]
        params = [_short(t["params"].get(name)) for name in names]
        lines.append([str(t["trial"]), f"{len(values)}{mark}", last, *params])
    return markdown(lines)


def _figure(study, config, importances):
    """The trials and the best so far; what mattered; and the accuracy by what mattered most."""
    from optuna.trial import TrialState

    figure, (left, middle, right) = plots.new_figure(columns=3, width=3.6)
    for state, color, label in (
        (TrialState.COMPLETE, "C0", "finished"),
        (TrialState.PRUNED, "C7", "stopped early"),
    ):
        trials = study.get_trials(states=[state])
        values = [list(t.intermediate_values.values())[-1] for t in trials]
        style = {"color": color, "s": 18, "label": label, "zorder": 3}
        left.scatter([t.number for t in trials], values, **style)
        top = next(iter(importances), next(iter(config["search"])))
        space = config["search"][top]
        shown = [str(t.params[top]) if "choices" in space else t.params[top] for t in trials]
        right.scatter(shown, values, **style)
    complete = study.get_trials(states=[TrialState.COMPLETE])
    best = [max(t.value for t in complete[: n + 1]) for n in range(len(complete))]
    left.step([t.number for t in complete], best, where="post", color="C3", label="best so far")
    left.set(xlabel="trial", ylabel="validation accuracy")
    left.legend()
    names = list(importances)[::-1]
    middle.barh(names, [importances[n] for n in names], color="C0")
    middle.set(xlabel="importance (fANOVA)")
    right.set_xlabel(top)
    if space.get("log"):  # Setting any scale drops the names of choices from the axis.
        right.set_xscale("log")
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    sys.exit(main())
