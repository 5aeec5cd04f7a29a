"""Tables in Markdown."""

import statistics
from collections.abc import Sequence


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first line holds the columns."""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation over seeds: `"98.2 ± 0.1"`."""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
