"""`history.csv`: it reads back, and what it refuses."""

import pytest

from tfnode.files import history
from tfnode.files.whole import FileError

HEADER = ",".join(history.HISTORY_COLUMNS)


def _row(epoch, **values):
    return {**dict.fromkeys(history.HISTORY_COLUMNS), "epoch": epoch, **values}


def test_history_reads_back(tmp_path):
    rows = [_row(1, loss=0.1 + 0.2, seconds=1e-3), _row(2, loss=1e300, val_accuracy=1.0)]
    path = tmp_path / "history.csv"
    history.write_history(path, rows)
    assert history.read_history(path) == rows
    assert path.read_text().splitlines()[0] == HEADER
    assert list(tmp_path.iterdir()) == [path]


def test_history_of_another_score(tmp_path):
    columns = tuple(name.replace("accuracy", "rmse") for name in history.HISTORY_COLUMNS)
    assert history.history_columns("rmse") == columns
    rows = [{**dict.fromkeys(columns), "epoch": n, "val_rmse": 2.0 - n} for n in (1.0, 2.0)]
    path = tmp_path / "history.csv"
    history.write_history(path, rows)
    assert history.read_history(path) == rows
    assert path.read_text().splitlines()[0] == ",".join(columns)


@pytest.mark.parametrize("score, best", [("accuracy", 2), ("rmse", 3)])
def test_best_row(score, best):
    values = [None, 0.5, 0.25, 0.5, 0.25]
    rows = [{"epoch": n, score: 0.0, f"val_{score}": v} for n, v in enumerate(values, 1)]
    assert history.score_of(rows) == score
    assert history.best_row(rows)["epoch"] == best
    assert history.best_row(rows[:1]) is None
    assert history.best_row([]) is None


def test_history_without_rows(tmp_path):
    history.write_history(tmp_path / "history.csv", [])
    assert history.read_history(tmp_path / "history.csv") == []


def test_history_with_an_unknown_column_leaves_the_old(tmp_path):
    path = tmp_path / "history.csv"
    history.write_history(path, [_row(1)])
    with pytest.raises(ValueError):
        history.write_history(path, [_row(1), {**_row(2), "more": 1}])
    assert history.read_history(path) == [_row(1)]


BAD_HISTORIES = {
    "empty": "",
    "other columns": "a,b\n1,2\n",
    "columns in another order": ",".join(reversed(history.HISTORY_COLUMNS)) + "\n",
    "one column less": HEADER.rsplit(",", 1)[0] + "\n",
    "one column more": HEADER + ",more\n",
    "column twice": HEADER.replace("loss", "epoch", 1) + "\n",
    "words": f"{HEADER}\n1,a,b,c,d,e,f,g,h\n",
    "short row": f"{HEADER}\n1,2\n",
    "long row": f"{HEADER}\n" + ",".join("123456789") + ",10\n",
    "cut row": f"{HEADER}\n" + ",".join("123456789") + "\n2,0.",
    "quote without an end": f'{HEADER}\n"1,2',
    "huge field": f"{HEADER}\n{'1' * 200000},2\n",
    "no epoch": f"{HEADER}\n,1,1,1,1,1,1,1,1\n",
}


@pytest.mark.parametrize("content", BAD_HISTORIES.values(), ids=BAD_HISTORIES.keys())
def test_history_refuses(tmp_path, content):
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(FileError) as error:
        history.read_history(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_history_refuses_other_bytes(tmp_path):
    path = tmp_path / "history.csv"
    for content in (b"\xff\xfe\0\0", f"{HEADER}\n".encode("utf-16"), b"\0"):
        path.write_bytes(content)
        with pytest.raises(FileError):
            history.read_history(path)
    with pytest.raises(FileError):
        history.read_history(tmp_path)
    with pytest.raises(FileError):
        history.read_history(tmp_path / "none.csv")
