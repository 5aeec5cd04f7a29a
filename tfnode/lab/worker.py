"""A worker: a process that runs one experiment, `python -m tfnode.lab.worker`.

A process of its own has seeds, precision and memory of its own.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
from typing import IO, cast

from tfnode.lab import command_line
from tfnode.lab.settings import Settings
from tfnode.runs import contents
from tfnode.runs.errors import Interrupted, TrainingError
from tfnode.runs.files import open_log

STDIN = 0  # The file descriptor.


def start(
    path: pathlib.Path,
    settings: Settings,
    log: pathlib.Path,
    data_dir: str | None = None,
    threads: int | None = None,
) -> "subprocess.Popen[str]":
    """Start the worker of an experiment, which resumes the run if there is one.

    Args:
        path: The run directory.
        settings: Those of the experiment, checked.
        log: File to which the worker's output is appended.
        data_dir: See `tfnode.data.load`.
        threads: For TensorFlow's operations; by default as many as cores.

    Returns:
        The process; its status is 0 for an experiment that finished. It ends with this process,
        however this one ends.
    """
    task = {
        "settings": settings.to_dict(),
        "log_dir": str(path),
        "data_dir": data_dir and str(data_dir),
        "resume": contents.holds_run(path),
    }
    environment = dict(os.environ)
    if threads:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            environment.setdefault(name, str(threads))
    with open_log(log) as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tfnode.lab.worker"],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
    stdin = cast(IO[str], process.stdin)
    stdin.write(f"{json.dumps(task)}\n")
    stdin.flush()  # It stays open: see `_end_with_parent`.
    return process


def stop(process: "subprocess.Popen[str]") -> None:
    """End a worker after the step that it takes; its run can be resumed from there."""
    process.terminate()
    process.wait()


def failure(process: "subprocess.Popen[str]", log: pathlib.Path) -> str:
    """Return in one line why a worker ended with a status other than 0."""
    if process.returncode < 0:
        return f"killed by signal {-process.returncode}; see {log}"
    lines = log.read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    return f"{last[:500]}; see {log}"


def main() -> int:
    """Run the experiment that stdin describes and return the exit status."""
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with command_line.quiet_import():
        from tfnode.lab import experiment

    try:
        experiment.run(Settings.read(task.pop("settings")), **task)
    except (ValueError, OSError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    except Interrupted as error:
        return 128 + error.signal
    return 0


def _end_with_parent() -> None:
    """End this process when the pipe to the one that started it breaks."""
    # A thread may not hold the lock of `sys.stdin` when Python ends, so the file itself is read.
    while os.read(STDIN, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
