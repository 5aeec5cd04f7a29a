"""What the commands share: flags, and the files they write. Imports no TensorFlow at first.

A topic is a module `tfnode/reproduce/<topic>.py` of this form, in which TensorFlow is imported
only once the arguments are checked, that is, inside of `run`:

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
import statistics
import sys
import time
from typing import NamedTuple

from tfnode import plots
from tfnode.provenance import provenance
from tfnode.report import markdown
from tfnode.run_dir import make_folder, replacing, write_json

RESULTS = "results.json"
TABLE = "table.md"


class Results(NamedTuple):
    """What an experiment found.

    Attributes:
        values: Every number, for `results.json`; no NaN.
        columns, rows: Those of `table.md`, in strings.
        figures: Name of a PNG file without its ending to a matplotlib figure.
    """

    values: dict
    columns: list
    rows: list
    figures: dict


def parser(topic, description):
    """The parser of a topic's command, with the flags that all have.

    Args:
        topic: Name of the module.
        description: Its docstring.
    """
    result = argparse.ArgumentParser(
        prog=f"python -m tfnode.reproduce.{topic}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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


def folder(text):
    """The type of an argument that is a folder, which the empty text, here, is not."""
    if not text:
        raise argparse.ArgumentTypeError("expected the path of a folder. Received: nothing")
    return text


def at_least(lowest):
    """The type of an argument that is an integer from `lowest` to what a seed can be."""

    def integer(text):
        if not text.isdecimal() or not lowest <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {lowest}. Received: {text}"
            )
        return int(text)

    return integer


def main(parser, run, arguments=None) -> int:
    """Runs a command and writes its files; returns its exit status.

    Args:
        parser: See `parser`.
        run: `run(options) -> Results`.
        arguments: Those of the command line, a list; `None` for the process's own.
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
        # Before long work, so that it is not lost.
        make_folder(out)
        from tfnode import distribution

        record = provenance(distribution.use_devices("none"))
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


def _write(out, record, results):
    for name, figure in results.figures.items():
        plots.save(figure, out / f"{name}.png")
        yield out / f"{name}.png"
    with replacing(out / TABLE) as temporary:
        temporary.write_text(markdown([results.columns, *results.rows]), encoding="utf-8")
    yield out / TABLE
    write_json(out / RESULTS, record)
    yield out / RESULTS


def spread(values, digits):
    """Mean and standard deviation over seeds, for a table: `"98.2 ± 0.1"`."""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
