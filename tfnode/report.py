"""Curves of any runs, overlaid: `python -m tfnode.report RUN_DIR... --out DIR`.

Writes the paper's four figures (training and testing, loss and accuracy) and a table in
Markdown and JSON, which is printed, too. For runs on time series RMSE takes the place of
accuracy. Runs that differ in their seeds alone have a row with their mean and standard deviation.
Only files are read, and TensorFlow is not loaded.
"""

import argparse
import sys
from collections.abc import Sequence

from tfnode.files.whole import FileError
from tfnode.runs.files import read_json
from tfnode.runs.report import printable, remarks, write_report
from tfnode.runs.tables import aligned


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.report", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run directories to compare")
    parser.add_argument("--out", default="report", metavar="DIR", help="folder for the report")
    options = parser.parse_args(arguments)
    try:
        paths = write_report(options.runs, options.out)
    except (FileError, OSError) as error:
        print(printable(f"report: {' '.join(str(error).splitlines())}"), file=sys.stderr)
        return 1
    files = {path.name: path for path in paths}
    print(printable(aligned(files["table.md"].read_text(encoding="utf-8"))))
    for remark in remarks(read_json(files["table.json"])["runs"]):
        print(printable(remark))
    print(printable("wrote " + ", ".join(str(p) for p in paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
