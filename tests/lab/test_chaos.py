"""Real kills at random moments of real runs; slow."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from run_results import assert_same, assert_whole, results

import tfnode
from tfnode.runs import contents, files

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]
EPOCHS = 3
KILLS = 20
BEGIN = (
    "--model=ode",
    "--dataset=digits",
    f"--epochs={EPOCHS}",
    "--deterministic",
    "--config.model.filters=4",
)
SEED = int(os.environ.get("TFNODE_CHAOS_SEED", "0"))
# How long after what line the kill comes, at most.
MOMENTS = (("", 10.0), ("results:", 12.0), ("epoch 1/3", 1.5), ("epoch 2/3", 1.5), ("ode:", 0.2))


# `train.py` with a checkpoint every tenth of a second, as these epochs last two.
OFTEN = """
import functools, runpy, sys
from tfnode import callbacks
callbacks.StepBackup = functools.partial(callbacks.StepBackup, seconds=0.1)
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


class _Run:
    """`train.py` in a folder, with what it prints in a file."""

    def __init__(self, directory, log):
        self.log = log
        begun = (directory / contents.CONFIG).exists()
        arguments = ("--resume",) if begun else BEGIN
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", OFTEN, *arguments, f"--log_dir={directory}"],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def wait_for(self, line):
        """Until it has printed a line, or ended."""
        while self.process.poll() is None and line not in self.log.read_text():
            time.sleep(0.005)

    def kill(self):
        """Whether it was killed, and had not ended before."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL

    def finish(self):
        status = self.process.wait(600)
        assert status == 0, self.log.read_text()[-3000:]


@pytest.mark.slow
def test_killed_at_random(tmp_path):
    """Runs that are killed twice or more end as one that never was."""
    reference = tmp_path / "reference"
    _Run(reference, tmp_path / "reference.txt").finish()
    expected = results(reference)
    assert all(len(values) == 1 for values in expected["events"].values())

    chance = random.Random(SEED)
    kills = runs = within = 0
    while kills < KILLS:
        runs += 1
        directory, log = tmp_path / f"run-{runs}", tmp_path / f"run-{runs}.txt"
        done, killed = False, 0
        while not done and killed < 2:
            line, longest = chance.choice(MOMENTS)
            run = _Run(directory, log)
            run.wait_for(line)
            delay = chance.uniform(0.0, longest)
            time.sleep(delay)
            if run.kill():
                killed += 1
                print(f"run {runs}: killed {delay:.2f} s after {line or 'the start'!r}", flush=True)
                assert_whole(directory)
            else:
                done = True
        if not done and not (directory / contents.METRICS).exists():
            _Run(directory, log).finish()
        assert_same(directory, expected)
        kills += killed
        resumed = files.read_json(directory / contents.CONFIG).get("resumed", [])
        within += sum(r["step"] > 0 for r in resumed)
    print(
        f"{kills} kills in {runs} runs, resumed within an epoch {within} times, all equal to the "
        "run that was not killed"
    )
    assert within
