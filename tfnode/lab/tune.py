"""`Search`: settings that Optuna proposes, tried one after the other."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from tfnode.data import folder
from tfnode.lab import runner
from tfnode.lab.runner import FINISHED, STOPPED, Experiment
from tfnode.lab.search_space import SearchSpace
from tfnode.lab.tune_results import short, write_results
from tfnode.runs.errors import OtherSettings
from tfnode.runs.files import make_folder, open_log, refuse_link
from tfnode.runs.lock import locked

JOURNAL = "optuna.log"
RUNS = "runs"
SCORE = "val_accuracy"


class Search:
    """A search in a folder, new or continued.

    Args:
        space: The settings to search.
        out: Folder of the search.
        data_dir: See `tfnode.data.load`.

    Attributes:
        study: Optuna's study, once the search is open.
    """

    study: Any

    def __init__(self, space: SearchSpace, out: pathlib.Path, data_dir: str | None = None) -> None:
        self.space = space
        self.out = out
        self.data_dir = data_dir

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the folder of the search, which no other search may use at the same time.

        Raises:
            ValueError: If data are missing, the search was begun with another config, or the
                folder is in use or cannot be used.
            ImportError: If Optuna is not installed.
        """
        folder.check(self.data_dir, self.space.base.chosen_data)
        make_folder(self.out / RUNS)
        with locked(self.out / RUNS, "--out"):
            refuse_link(self.out / JOURNAL)
            self.study = _open(self.space.config, self.out)
            yield

    def run(self) -> None:
        """Try settings until all trials are done."""
        while (left := self.space.config["trials"] - len(done(self.study))) > 0:
            print(f"{left} trials to do", flush=True)
            self._try()

    def write_results(self) -> list[pathlib.Path]:
        """Write the results and return their paths.

        Raises:
            ValueError: If no trial was finished.
        """
        return write_results(self.study, done(self.study), self.space, self.out)

    def _try(self) -> None:
        """Try settings once."""
        from optuna.trial import TrialState

        trial = self.study.ask()
        params = self.space.suggest(trial)
        path = self.out / RUNS / f"trial-{trial.number}"
        print(f"{path}: {' '.join(f'{k}={short(v)}' for k, v in params.items())}", flush=True)

        def fail(reason: str) -> None:
            trial.set_user_attr("failed", reason)
            self.study.tell(trial, state=TrialState.FAIL)

        try:
            one = Experiment(path, self.space.settings({"name": path.name, **params}))
        except ValueError as error:
            # Each setting may be right, and not beside the others. The trial counts, so that the
            # search comes to an end.
            fail(str(error))
            with open_log(path.with_name(f"{path.name}.log")) as log:
                print(error, file=log)
            print(f"{path}: {error}", flush=True)
            return
        told = 0

        def watch(one: Experiment) -> bool:
            nonlocal told
            rows = one.history()
            for row in rows[told:]:
                trial.report(row[SCORE], int(row["epoch"]))
            told = len(rows)
            return bool(told) and trial.should_prune()

        outcome = runner.run([one], data_dir=self.data_dir, watch=watch)[one]
        if outcome == STOPPED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif outcome == FINISHED:
            self.study.tell(trial, one.history()[-1][SCORE])
        else:
            fail(outcome)
            return
        rows = one.history()
        print(f"{path}: {rows[-1][SCORE]:.4f} after epoch {len(rows)}", flush=True)


def done(study: Any) -> list[Any]:
    """Return the trials that count: finished, stopped early, or failed by themselves."""
    states = ("COMPLETE", "PRUNED")
    return [t for t in study.trials if t.state.name in states or "failed" in t.user_attrs]


def _open(config: dict[str, Any], out: pathlib.Path) -> Any:
    """Return Optuna's study in a folder."""
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
    # A search that is continued must not propose its first settings once more.
    study.sampler = optuna.samplers.TPESampler(seed=config["seed"] + len(study.trials))
    begun = json.dumps({k: v for k, v in config.items() if k != "trials"}, sort_keys=True)
    if study.user_attrs.setdefault("config", begun) != begun:
        raise OtherSettings(
            f"The search in {out} was begun with another config; only trials may be raised. "
            f"Choose another --out. Expected {study.user_attrs['config']}. Received: {begun}"
        )
    study.set_user_attr("config", begun)
    # A trial that was killed is tried again from its beginning.
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study
