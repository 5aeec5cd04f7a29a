"""What the benchmarks share: the machine they ran on, tables, and JSON files."""

import importlib.metadata
import json
import os
import pathlib
import platform

PACKAGES = (
    "tfnode",
    "tensorflow",
    "keras",
    "tensorflow-probability",
    "torch",
    "torchdiffeq",
    "jax",
    "jaxlib",
    "diffrax",
    "equinox",
    "scipy",
)


def available_cpus():
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def machine():
    """The processor and the operating system, a dict."""
    return {
        "cpu": _cpu_name(),
        "cores": len(available_cpus()),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "xla_flags": os.environ.get("XLA_FLAGS"),  # TensorFlow's and JAX's.
    }


def _cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    # Virtual machines hide the product's name; family and model still tell it.
    numbers = " ".join(
        f"{name} {fields[key]}"
        for name, key in (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))
        if key in fields
    )
    return f"{fields.get('model name', platform.machine())} ({numbers})"


def versions(packages=PACKAGES):
    """Versions of Python and of those packages that are installed, a dict."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def markdown(columns, rows):
    """A Markdown table; numbers are strings already, the first column is left-aligned."""
    cells = [list(columns), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        + " |"
        for row in cells
    ]
    rule = [("-" * width) if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join(lines)


def footer(facts, threads):
    """The line below a table: where its numbers are from."""
    names = ", ".join(f"{name} {version}" for name, version in versions().items())
    load = facts["load_average"]
    # Other work on the machine makes every number worse, and not all by as much.
    busy = f", load average at the start {load[0]:.1f}" if load else ""
    if load and load[0] > 0.5:
        busy += ": NOT A QUIET MACHINE, do not use these numbers"
    flags = f", XLA_FLAGS={facts['xla_flags']}" if facts["xla_flags"] else ""
    return (
        f"Machine: {facts['cpu']}, {facts['cores']} cores, {facts['system']}{busy}; "
        f"{threads} threads{flags}.\nVersions: {names}."
    )


def write_json(path, results):
    """Writes the results, with the versions, as JSON."""
    text = json.dumps({**results, "versions": versions()}, indent=2)
    pathlib.Path(path).write_text(text + "\n")
