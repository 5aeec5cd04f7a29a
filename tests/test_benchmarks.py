"""The benchmarks' harness: a published result goes into the history."""

import importlib.util
import json
import pathlib
import sys

import tfnode

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("harness", ROOT / "benchmarks" / "harness.py")
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


def test_history_grows_by_published_results_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "REFERENCE", tmp_path)
    monkeypatch.setattr(harness, "HISTORY", tmp_path / "history.csv")
    for folder, ratio in ((tmp_path, 0.5), (tmp_path, 0.25), (tmp_path / "..", 4.0)):
        path = folder / "speed.json"
        monkeypatch.setattr(sys, "argv", ["speed.py", f"--json={path}", "--repeats=2"])
        arguments = harness.parse(harness.parser("", repeats=3))
        harness.report(arguments, ["a table"], {"results": [ratio]}, {"a row": ratio})
        assert json.loads(path.read_text())["commit"] == harness.commit()
        path.unlink()
    assert "a table" in capsys.readouterr().out
    header, *rows = (tmp_path / "history.csv").read_text().splitlines()
    assert header == ",".join(harness.HISTORY_COLUMNS)
    assert [row.split(",")[2:5] for row in rows] == [
        ["speed", "a row", "0.500"], ["speed", "a row", "0.250"],
    ]  # fmt: skip
    commit = harness.commit()
    *_, line = (tmp_path / "history.md").read_text().splitlines()
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "speed", "a row", f"0.50 ({commit}), 0.25 ({commit})",
    ]  # fmt: skip


def test_history_of_this_project_is_whole():
    """The table is that of the file, so nobody has written into one of them alone."""
    assert harness.HISTORY.with_suffix(".md").read_text() == harness.history_table() + "\n"
