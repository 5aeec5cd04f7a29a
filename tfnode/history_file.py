"""The history of a run, `history.csv`: its columns, reading and writing it, and what it says.

Imports no TensorFlow.
"""

import csv

from tfnode.run_dir import RunError, refuse_pipe, replacing

# What a run may be judged by, which depends on its data, and which values are better.
SCORES = {"accuracy": "max", "rmse": "min"}


def history_columns(score):
    """The columns of the history of a run that is judged by one of `SCORES`."""
    return (
        "epoch",
        "loss",
        score,
        "val_loss",
        f"val_{score}",
        "learning_rate",
        "seconds",
        "nfe_forward",
        "nfe_backward",
    )


HISTORY_COLUMNS = history_columns("accuracy")


def write_history(path, rows):
    """Writes rows of `history_columns`, all of one score, whole or not at all."""
    columns = history_columns(score_of(rows))
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(path):
    """The rows of a `history.csv`: a list of dicts of floats, `None` where empty.

    Raises:
        RunError: If the file is missing, has other columns, or holds no numbers.
    """
    try:
        refuse_pipe(path)
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = tuple(reader.fieldnames or ())
            if columns not in map(history_columns, SCORES):
                raise RunError(
                    f"Expected the columns {','.join(HISTORY_COLUMNS)} in {path}, or another "
                    f"score than accuracy: {', '.join(SCORES)}. Received: "
                    f"{','.join(columns)[:200]}"
                )
            rows = []
            for row in reader:
                if len(row) != len(columns) or None in row.values():
                    raise ValueError(f"a row of other than {len(columns)} numbers: {row}")
                rows.append({k: float(v) if v else None for k, v in row.items()})
                epoch = rows[-1]["epoch"]
                if epoch is None or not 1 <= epoch < 2**53 or epoch != int(epoch):
                    raise ValueError(f"epoch {row['epoch']!r}")
    except (OSError, csv.Error, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"Expected a history of a run at {path}. Received: {error}") from error
    return rows


def score_of(rows):
    """By which of `SCORES` the rows of a history are judged."""
    return next((name for name in SCORES if rows and name in rows[0]), "accuracy")


def best_row(rows):
    """The first row of a history with the best score in validation; `None` where none has one."""
    score = score_of(rows)
    better = {"max": max, "min": min}[SCORES[score]]
    tested = [row for row in rows if row[f"val_{score}"] is not None]
    return better(tested, key=lambda row: row[f"val_{score}"], default=None)


def score_text(score, value):
    """A value of one of `SCORES`, for people."""
    return f"{100 * value:.2f} %" if score == "accuracy" else f"{value:.4f}"


def median_seconds(rows):
    """Of an epoch of a history, the first one aside, which traces and compiles; `None` if none."""
    seconds = [row["seconds"] for row in rows[1:] or rows]
    seconds = sorted(s for s in seconds if s is not None)
    return seconds[len(seconds) // 2] if seconds else None
