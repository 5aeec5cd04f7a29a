"""One experiment in a process of its own, so that seeds, precision and memory are its own.

Imports no TensorFlow, except in that process: `python -m tfnode.cell`, which `start` starts.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys
import threading

from tfnode import run_dir
from tfnode.settings import complete, data_set

# Run as a file, since importing it from the package would load TensorFlow.
DATA_FOLDER = runpy.run_path(str(pathlib.Path(__file__).with_name("data") / "folder.py"))

FINISHED, DIVERGED, BEGUN, NEW = "finished", "diverged", "begun", "new"


def state(path, settings: dict) -> str:
    """What there is of an experiment in a run directory.

    Args:
        path: The run directory.
        settings: Those of the experiment.

    Returns:
        `FINISHED`, with all epochs; `DIVERGED`, which would again; `BEGUN`, which `start`
        resumes; or `NEW`.

    Raises:
        RunError: If the run there has other settings or cannot be read.
    """
    path = pathlib.Path(path)
    if not run_dir.holds_run(path):
        return NEW
    record = run_dir.read_record(path)
    record["settings"] = complete(record["settings"])
    try:
        run_dir.check_resume(path, record, complete(settings))
    except run_dir.Finished:
        return FINISHED
    metrics = path / run_dir.METRICS
    if metrics.exists() and run_dir.read_json(metrics).get("diverged"):
        return DIVERGED
    return BEGUN


def check_data(experiments, data_dir=None):
    """Refuses a folder of data that was named and has none, before processes find it out.

    Args:
        experiments: The settings of each, nested dicts.
        data_dir: See `tfnode.data.load`.

    Raises:
        ValueError: If one of them would look there.
    """
    folder = DATA_FOLDER["named"](data_dir)
    if folder and any(data_set(settings) in ("auto", "mnist") for settings in experiments):
        DATA_FOLDER["find"](folder)


def start(path, settings: dict, log, data_dir=None, threads=None) -> subprocess.Popen:
    """Starts the process that trains, or resumes what was begun.

    Args:
        path: The run directory.
        settings: Those of the experiment, checked.
        log: File to which the process's output is appended.
        data_dir: See `tfnode.data.load`.
        threads: For TensorFlow's operations; by default as many as cores.

    Returns:
        The process; its status is 0 for an experiment that finished. It ends with this one,
        however this one ends.
    """
    task = {
        "settings": settings,
        "log_dir": str(path),
        "data_dir": data_dir and str(data_dir),
        "resume": run_dir.holds_run(path),
    }
    environment = dict(os.environ)
    if threads:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            environment.setdefault(name, str(threads))
    with open(log, "a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tfnode.cell"],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
    process.stdin.write(f"{json.dumps(task)}\n")
    process.stdin.flush()  # And stays open: see `main`.
    return process


def stop(process):
    """Ends a process at once; what it did up to its last whole epoch can be resumed."""
    process.terminate()
    process.wait()


def failure(process, log) -> str:
    """Why a process ended with a status other than 0, in one line."""
    if process.returncode < 0:
        return f"killed by signal {-process.returncode}; see {log}"
    lines = pathlib.Path(log).read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    return f"{last[:500]}; see {log}"


def _end_with_parent():
    """Waits for the pipe to the process that started this one to break, then ends this one."""
    # Not by `sys.stdin`, whose lock a thread may not hold when Python ends.
    while os.read(sys.__stdin__.fileno(), 1):
        pass
    os._exit(1)


def main() -> int:
    """Trains what the task on stdin says; returns the exit status."""
    import ml_collections

    from tfnode import experiment

    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        experiment.run(ml_collections.ConfigDict(task.pop("settings")), **task)
    except (ValueError, OSError, experiment.TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
