"""`Study`: models by seeds."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

from tfnode.data import folder
from tfnode.lab import config_file, runner
from tfnode.lab.runner import BEGUN, DIVERGED, FINISHED, NEW, Experiment
from tfnode.lab.settings import Settings
from tfnode.lab.study_results import write_results
from tfnode.runs.files import make_folder
from tfnode.runs.lock import locked

RUNS = "runs"


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One experiment of a study.

    Attributes:
        model: Its name in the study.
        seed: The seed of the experiment.
        experiment: Settings and place.
    """

    model: str
    seed: int
    experiment: Experiment

    @property
    def name(self) -> str:
        """The name of the run."""
        return f"{self.model}-{self.seed}"


class Study:
    """The experiments of a config file, each with a run directory `out/runs/MODEL-SEED`.

    Args:
        config: Path of the file; see `read_cells`.
        out: Folder of the study.
        data_dir: See `tfnode.data.load`.

    Raises:
        ValueError: If the file or a setting in it is not right.

    Example:
    ```python
    study = Study("configs/study.py", pathlib.Path("logs/study"))
    with study.open():
        study.write_results(study.train())
    ```
    """

    def __init__(
        self, config: str | os.PathLike[str], out: pathlib.Path, data_dir: str | None = None
    ) -> None:
        self.cells = read_cells(config, out)
        self.out = out
        self.data_dir = data_dir

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the folder of the study, which no other study may use at the same time.

        Raises:
            ValueError: If data are missing, or the folder is in use or cannot be used.
        """
        for cell in self.cells:
            folder.check(self.data_dir, cell.experiment.settings.chosen_data)
        make_folder(self.out / RUNS)
        with locked(self.out / RUNS, "--out"):
            yield

    def train(self, jobs: int = 1) -> dict[Cell, str]:
        """Train what is not finished, and return the failures, each with its reason.

        Raises:
            ValueError: If a run has other settings.
        """
        states = {cell.name: cell.experiment.state() for cell in self.cells}
        left = [cell.experiment for cell in self.cells if states[cell.name] in (NEW, BEGUN)]
        print(f"{len(self.cells)} experiments, {len(left)} of them to do", flush=True)
        outcomes = runner.run(left, jobs=jobs, data_dir=self.data_dir)
        failures = {}
        for cell in self.cells:
            outcome = outcomes.get(cell.experiment, FINISHED)
            if states[cell.name] == DIVERGED:
                outcome = f"diverged; see {cell.experiment.log}"
            if outcome != FINISHED:
                failures[cell] = outcome
        return failures

    def write_results(self, failures: dict[Cell, str]) -> list[pathlib.Path]:
        """Write the table, the figures and `results.json`, and return their paths."""
        return write_results(self.cells, failures, self.out)


def read_cells(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> list[Cell]:
    """Return the experiments that a config file describes, by seed, then model.

    Args:
        path: A file whose `get_config()` returns a dict of `models`, names to settings of
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
    # A seed of every model comes first, so that models can be compared early.
    for seed in seeds:
        for name, settings in config["models"].items():
            try:
                chosen = Settings.read(config_file.override(settings, {"name": name, "seed": seed}))
            except ValueError as error:
                raise ValueError(f"Model {name!r} of {path}: {error}") from error
            run = pathlib.Path(out, RUNS, f"{name}-{seed}")
            cells.append(Cell(name, seed, Experiment(run, chosen)))
    if not cells:
        raise ValueError(f"Expected one or more models. Received: models={config['models']!r}")
    return cells
