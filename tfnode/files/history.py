"""The history of a training, one row an epoch, as CSV."""

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfnode.files.whole import FileError, reason, refuse_pipe, replacing

Row = dict[str, Any]

# The scores that judge a model, which depend on its data, and which values are better.
SCORES = {"accuracy": "max", "rmse": "min"}


def history_columns(score: str) -> tuple[str, ...]:
    """Return the columns of a history that has one of `SCORES`."""
    return (
        *("epoch", "loss", score, "val_loss", f"val_{score}"),
        *("learning_rate", "seconds", "nfe_forward", "nfe_backward"),
    )


HISTORY_COLUMNS = history_columns("accuracy")


def write_history(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of `history_columns`, all of one score, whole or not at all."""
    columns = history_columns(score_of(rows))
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: str | os.PathLike[str]) -> list[Row]:
    """Return the rows of a history: dicts of floats, `None` where a field is empty.

    Raises:
        FileError: If the file is missing, has other columns, or holds no numbers.
    """
    try:
        refuse_pipe(path)
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = tuple(reader.fieldnames or ())
            if columns not in map(history_columns, SCORES):
                raise FileError(
                    f"Expected the columns {','.join(HISTORY_COLUMNS)} in {path}, or another "
                    f"score than accuracy: {', '.join(SCORES)}. Received: "
                    f"{','.join(columns)[:200]}"
                )
            return [_numbers(row, columns) for row in reader]
    except FileError:
        raise
    except (OSError, csv.Error, ValueError) as error:
        raise FileError(
            f"Expected a history of a run at {path}. Received: {reason(error)}"
        ) from error


def _numbers(row: Mapping[str, str], columns: tuple[str, ...]) -> Row:
    if len(row) != len(columns) or None in row.values():
        raise ValueError(f"a row of other than {len(columns)} numbers: {row}")
    numbers = {name: float(text) if text else None for name, text in row.items()}
    epoch = numbers["epoch"]
    if epoch is None or not 1 <= epoch < 2**53 or epoch != int(epoch):
        raise ValueError(f"epoch {row['epoch']!r}")
    return numbers


def score_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the one of `SCORES` that the rows have."""
    return next((name for name in SCORES if rows and name in rows[0]), "accuracy")


def best_row(rows: Sequence[Row]) -> Row | None:
    """Return the first row with the best score in validation; `None` without any score."""
    score = score_of(rows)
    better = {"max": max, "min": min}[SCORES[score]]
    tested = [row for row in rows if row[f"val_{score}"] is not None]
    return better(tested, key=lambda row: row[f"val_{score}"]) if tested else None


def score_text(score: str, value: float) -> str:
    """Return a value of one of `SCORES` as text for people."""
    return f"{100 * value:.2f} %" if score == "accuracy" else f"{value:.4f}"


def median_seconds(rows: Sequence[Row]) -> float | None:
    """Return the median time of an epoch, without the first one, which traces and compiles."""
    seconds = [row["seconds"] for row in rows[1:] or rows]
    seconds = sorted(s for s in seconds if s is not None)
    return seconds[len(seconds) // 2] if seconds else None
