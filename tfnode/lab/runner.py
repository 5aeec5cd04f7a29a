"""The runner of `tfnode.study` and `tfnode.tune`: experiments, each in a worker."""

import collections
import dataclasses
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterable

from tfnode.files.history import Row, read_history
from tfnode.lab import worker
from tfnode.lab.settings import Settings, record_to_resume
from tfnode.runs import contents
from tfnode.runs.errors import Finished
from tfnode.runs.files import read_json

FINISHED, DIVERGED, BEGUN, NEW, STOPPED = "finished", "diverged", "begun", "new", "stopped"
SECONDS = 0.2

Watch = Callable[["Experiment"], bool]


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """One experiment with its place on disk.

    Attributes:
        path: The run directory.
        settings: Those of the experiment, checked.
    """

    path: pathlib.Path
    settings: Settings

    @property
    def log(self) -> pathlib.Path:
        """The file with the output of the worker."""
        return self.path.with_name(f"{self.path.name}.log")

    def state(self) -> str:
        """Return `FINISHED`, `DIVERGED`, `BEGUN`, which a runner resumes, or `NEW`.

        Raises:
            RunError: If the run there has other settings or cannot be read.
        """
        if not contents.holds_run(self.path):
            return NEW
        try:
            record_to_resume(self.path, self.settings)
        except Finished:
            return FINISHED
        metrics = self.path / contents.METRICS
        return DIVERGED if metrics.exists() and read_json(metrics).get("diverged") else BEGUN

    def history(self) -> list[Row]:
        """Return the epochs so far; there are none before the first has ended."""
        file = self.path / contents.HISTORY
        return read_history(file) if file.exists() else []


def run(
    experiments: Iterable[Experiment],
    *,
    jobs: int = 1,
    data_dir: str | None = None,
    watch: Watch | None = None,
) -> dict[Experiment, str]:
    """Run experiments, some at the same time.

    Args:
        experiments: New ones, and ones to resume.
        jobs: How many workers there are at the same time.
        data_dir: See `tfnode.data.load`.
        watch: Called for a running experiment every moment, and once after its end. If it
            returns true, the experiment is stopped.

    Returns:
        Each experiment with `FINISHED`, `STOPPED`, or the reason of a failure.
    """
    waiting = collections.deque(experiments)
    running: dict[Experiment, subprocess.Popen[str]] = {}
    outcomes: dict[Experiment, str] = {}
    threads = None if jobs == 1 else max(1, (os.cpu_count() or 1) // jobs)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                one = waiting.popleft()
                process = worker.start(one.path, one.settings, one.log, data_dir, threads)
                running[one] = process
            time.sleep(SECONDS)
            for one, process in list(running.items()):
                ended = process.poll() is not None
                stopped = watch is not None and watch(one) and not ended
                if not (ended or stopped):
                    continue
                if stopped:
                    worker.stop(process)
                    outcomes[one] = STOPPED
                else:
                    failed = process.returncode
                    outcomes[one] = worker.failure(process, one.log) if failed else FINISHED
                del running[one]
                print(f"{one.path}: {outcomes[one]}", flush=True)
    finally:
        for process in running.values():
            worker.stop(process)
    return outcomes
