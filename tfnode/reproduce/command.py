"""Flags of the topics of `tfnode.reproduce`, and the files that they write.

A topic is a module `tfnode/reproduce/<topic>.py` of this form. It imports TensorFlow within
`run`, once the arguments are checked:

    def run(options):
        from tfnode.layers import ODEBlock
        ...
        return command.Results(values={...}, columns=[...], rows=[[...]], figures={...})

    def main(arguments=None):
        parser = command.parser("topic", __doc__)
        parser.add_argument("--seeds", type=command.at_least(1), default=3, help="how many seeds")
        return command.main(parser, run, arguments)

    if __name__ == "__main__":
        sys.exit(main())
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tfnode.files import plots
from tfnode.lab import command_line
from tfnode.lab.command_line import at_least, folder
from tfnode.runs.files import make_folder, write_json, write_text
from tfnode.runs.provenance import provenance
from tfnode.runs.tables import markdown, spread

__all__ = ["Results", "at_least", "main", "parser", "spread"]

RESULTS = "results.json"
TABLE = "table.md"


class Results(NamedTuple):
    """The results of an experiment.

    Attributes:
        values: Every number, for `results.json`; no NaN.
        columns, rows: The table, in strings.
        figures: Name of a PNG file without its ending to a matplotlib figure.
    """

    values: dict[str, Any]
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, Any]


def parser(topic: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a topic's command, with the flags that all have.

    Args:
        topic: Name of the module.
        description: Its docstring.
    """
    result = command_line.parser(f"reproduce.{topic}", description)
    result.add_argument(
        "--out",
        type=folder,
        metavar="DIR",
        help=f"folder for results (logs/{topic}, with --quick logs/{topic}_quick)",
    )
    result.add_argument(
        "--overwrite", action="store_true", help="replace the results that are in the folder"
    )
    result.add_argument("--seed", type=at_least(0), default=0, help="first seed (%(default)s)")
    result.add_argument(
        "--quick",
        action="store_true",
        help="too small to reproduce anything, in seconds: to see that it works",
    )
    return result


def main(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], Results],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a command, write its files and return its exit status.

    Args:
        parser: See `parser`.
        run: `run(options) -> Results`.
        arguments: The command line; `None` for that of the process.
    """
    options = parser.parse_args(arguments)
    topic = parser.prog.rpartition(".")[2]
    options.out = options.out or f"logs/{topic}{'_quick' if options.quick else ''}"
    out = pathlib.Path(options.out)
    if (out / RESULTS).exists() and not options.overwrite:
        print(
            f"{parser.prog}: There are results in {out}. Choose another --out, or have them "
            "replaced with --overwrite.",
            file=sys.stderr,
        )
        return 2
    try:
        # A bad folder is found before long work is done.
        make_folder(out)
        with command_line.quiet_import():
            from tfnode.lab import devices

        record = provenance(devices.use_devices("none"))
        start = time.perf_counter()
        results = run(options)
        ours = ("out", "overwrite")
        settings = {name: value for name, value in vars(options).items() if name not in ours}
        record |= {
            "command": parser.prog,
            "settings": settings,
            "quick": options.quick,
            "seconds": round(time.perf_counter() - start, 1),
            "results": results.values,
        }
        for path in _write(out, record, results):
            print(f"wrote {path}")
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _write(out: pathlib.Path, record: dict[str, Any], results: Results) -> Iterator[pathlib.Path]:
    for name, figure in results.figures.items():
        plots.save(figure, out / f"{name}.png")
        yield out / f"{name}.png"
    write_text(out / TABLE, markdown([results.columns, *results.rows]))
    yield out / TABLE
    write_json(out / RESULTS, record)
    yield out / RESULTS
