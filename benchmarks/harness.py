"""Run, time and report a benchmark: flags, peers, turns, tables, files and the history."""

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "logs" / "reference" / "benchmarks"
HISTORY = REFERENCE / "history.csv"
HISTORY_COLUMNS = ("date", "commit", "benchmark", "row", "ratio", "cpu", "load_average")
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
QUIET = 0.5  # The largest load average of a machine that does nothing else.
PAUSE = 0.02  # Seconds between turns, in which the threads of the last one come to rest.
PACKAGES = (
    *("tfnode", "tensorflow", "keras", "tensorflow-probability", "torch", "torchdiffeq"),
    *("torchcde", "jax", "jaxlib", "diffrax", "equinox", "scipy"),
)
HELP = {
    "json": "write the results there too",
    "steps": "of training, before the clock",
    "training_steps": "the peak is that of all of them",
    "warmup": "turns that do not count",
}


def parser(description, **numbers):
    """Return a parser with `--json` and with flags for these numbers, at these defaults."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in numbers.items():
        result.add_argument(f"--{name}", type=positive, default=default, help=HELP.get(name))
    result.add_argument("--json", metavar="FILE", help=HELP["json"])
    result.add_argument("--worker", help=argparse.SUPPRESS)
    return result


def parse(parser):
    """Parse the flags, look at the machine, and take no more processors than `--threads`."""
    arguments = parser.parse_args()
    arguments.machine = machine()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    threads, cpus = getattr(arguments, "threads", None), available_cpus()
    if threads is not None and threads > len(cpus):
        parser.error(f"--threads={threads}, but there are {len(cpus)} processors.")
    if threads is not None and threads < len(cpus) and hasattr(os, "sched_setaffinity"):
        # A framework's helper threads would otherwise have the other processors.
        os.sched_setaffinity(0, cpus[:threads])
    return arguments


def report(arguments, tables, found, ratios=None, note=""):
    """Print the tables and their origin; write the JSON and the history.

    Args:
        arguments: The result of `parse`.
        tables: Markdown, a list.
        found: A dict for the JSON file; the settings are added.
        ratios: A row's name -> its ratio to the peer, for the history.
        note: The start of the line below the tables.
    """
    settings = vars(arguments).items()
    settings = {k: v for k, v in settings if k not in ("json", "plot", "worker")}
    print("\n\n".join(tables) + f"\n\n{note}{footer(settings)}")
    if arguments.json:
        origin = {"date": datetime.date.today().isoformat(), "commit": commit()}
        write_json(arguments.json, {**origin, **settings, **found})
        if pathlib.Path(arguments.json).resolve().parent == REFERENCE and ratios:
            record(pathlib.Path(arguments.json).stem, ratios, **origin, facts=arguments.machine)


def footer(settings):
    """Return the line below a table: where its numbers are from."""
    names = "Versions: " + ", ".join(f"{name} {x}" for name, x in versions().items()) + "."
    if not {"threads", "repeats"} & settings.keys():  # Nothing was timed.
        return names
    counts = [f"Batch of {settings['batch_size']}"] if "batch_size" in settings else []
    counts += [f"{settings['repeats']} repeats"] if "repeats" in settings else []
    facts, start = settings["machine"], f"{', '.join(counts)}. " if counts else ""
    load = facts["load_average"]
    # Other work on the machine makes every number worse, and not all by as much.
    busy = f", load average at the start {load[0]:.1f}" if load else ""
    if load and load[0] > QUIET:
        busy += ": NOT A QUIET MACHINE, do not use these numbers"
    flags = f", XLA_FLAGS={facts['xla_flags']}" if facts["xla_flags"] else ""
    return (
        f"{start}Machine: {facts['cpu']}, {facts['cores']} cores, {facts['system']}{busy}; "
        f"{settings.get('threads') or 'default'} threads{flags}.\n{names}"
    )


def commit():
    """Return the short name of the commit, with a `+` where the code differs from it."""

    def git(*command):
        result = subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True)
        return result.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--", "tfnode", "benchmarks") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def record(benchmark, ratios, date, commit, facts):
    """Append ratios to the history, a CSV file, and write its table beside it."""
    load = f"{facts['load_average'][0]:.1f}" if facts["load_average"] else ""
    new = not HISTORY.exists()
    with HISTORY.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HISTORY_COLUMNS] if new else [])
        for row, ratio in ratios.items():
            writer.writerow([date, commit, benchmark, row, f"{ratio:.3f}", facts["cpu"], load])
    HISTORY.with_suffix(".md").write_text(history_table() + "\n")


def history_table():
    """Return the history as Markdown: all ratios of a row side by side, the oldest first."""
    found = {}
    with HISTORY.open(newline="") as file:
        for entry in csv.DictReader(file):
            entries = found.setdefault((entry["benchmark"], entry["row"]), [])
            entries.append(f"{float(entry['ratio']):.2f} ({entry['commit']})")
    rows = [(*key, ", ".join(entries)) for key, entries in found.items()]
    return markdown(("benchmark", "row", "ratios to the peer, oldest first"), rows)


def write_json(path, results):
    """Write the results, with the versions, as JSON."""
    text = json.dumps({**results, "versions": versions()}, indent=2)
    pathlib.Path(path).write_text(text + "\n")


def markdown(columns, rows):
    """Return a Markdown table of strings; the first column is left-aligned."""
    cells = [list(columns), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = []
    for first, *others in cells:
        numbers = [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        lines.append(" | ".join([first.ljust(widths[0]), *numbers]))
    rule = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
    lines.insert(1, " | ".join(rule))
    return "\n".join(f"| {line} |" for line in lines)


class Died(SystemExit):
    """The end of a worker: `returncode` and, as the message, its output."""


class Worker:
    """A peer in a process of its own: this script with `--worker NAME`, which calls `serve`.

    Args:
        name: What the script finds in `--worker`.
        timeout: Seconds until `ready`, its first answer, or `None`.
        environment: Further variables of its environment.
    """

    def __init__(self, name, timeout=None, environment=()):
        self.name = name
        # The file is open as long as the process, which writes to it.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:], "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **dict(environment)},
        )
        self.ready = self._read(timeout)

    def ask(self, request=None, timeout=None):
        """Return the answer to a request; raise `Died` if the process ends before it."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # Reading says why.
        return self._read(timeout)

    def _read(self, timeout):
        timer = threading.Timer(timeout or 0.0, self.process.kill)
        if timeout is not None:
            timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        died = Died(
            f"{self.errors.read()}\nThe worker {self.name!r} failed; its output is above. The "
            "packages that it needs come with: pip install -e '.[benchmarks]'"
        )
        died.returncode = self.process.returncode
        raise died

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def serve(start):
    """Be the worker: answer requests from standard input until it closes.

    Args:
        start: A function that returns the first answer and a function of a request.
    """
    # Whatever the frameworks print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    ready, answer = start()
    answers.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")


def take_turns(turns, warmup, repeats):
    """Run functions in turns, so that each sees the same machine.

    Args:
        turns: Name -> function.
        warmup: How many rounds do not count.
        repeats: How many rounds count.

    Returns:
        Name -> list of what the function returned.
    """
    found = {name: [] for name in turns}
    for turn in range(warmup + repeats):
        for name, run in turns.items():
            result = run()
            if turn >= warmup:
                found[name].append(result)
            time.sleep(PAUSE)
    return found


def seconds(call):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def quartiles(values):
    """Return the three quartiles of a sample, of one value too."""
    if len(values) == 1:
        return list(values) * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def milliseconds(values, digits):
    """Return two cells of a table: the median of seconds, and the other quartiles."""
    low, middle, high = (f"{1e3 * x:.{digits}f}" for x in quartiles(values))
    return [middle, f"{low} to {high}"]


def positive(text):
    """Return an int of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return value


def limit_tensorflow(threads):
    """Give TensorFlow no GPU and that many threads, before it does anything."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.set_visible_devices([], "GPU")


def available_cpus():
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def machine():
    """Return a dict of the processor, the operating system and the load."""
    return {
        "cpu": _cpu_name(),
        "cores": len(available_cpus()),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "xla_flags": os.environ.get("XLA_FLAGS"),  # Both TensorFlow and JAX read them.
    }


def _cpu_name():
    fields = cpu_fields()
    # Virtual machines hide the product's name; family and model still tell it.
    names = {"family": "cpu family", "model": "model", "stepping": "stepping"}
    numbers = " ".join(f"{name} {fields[key]}" for name, key in names.items() if key in fields)
    name = fields.get("model name", platform.processor() or platform.machine())
    return f"{name} ({numbers})" if numbers else name


def cpu_fields():
    """Return what the operating system says of a processor, empty where it is unknown."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    return {name.strip(): value.strip() for name, value in pairs}


def versions():
    """Return the versions of Python and of those packages that are installed, a dict."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
