"""Tables in Markdown."""

import statistics
from collections.abc import Sequence


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first line holds the columns."""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def aligned(table: str) -> str:
    """Return a table of `markdown` with columns of one width each, for the terminal."""
    rows = [line.strip().strip("|").split(" | ") for line in table.splitlines()]
    rows = [[cell.strip() for cell in row] for row in rows if "---" not in row[0]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation over seeds: `"98.2 ± 0.1"`."""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
