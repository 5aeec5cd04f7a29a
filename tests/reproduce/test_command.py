"""What the commands of `tfnode.reproduce` share."""

import pytest

from tfnode import study, tune
from tfnode.files import plots
from tfnode.reproduce import command
from tfnode.runs import files


def _run(options):
    if options.seed == 13:
        raise ValueError("Expected luck. Received: seed=13")
    figure, (axis,) = plots.new_figure()
    axis.plot([1, 2])
    rows = [["a", command.spread([1.0, 2.0, 3.0], 1)]]
    return command.Results({"answer": 42}, ["name", "x"], rows, {"line": figure})


def _main(*arguments):
    parser = command.parser("topic", "What it does.")
    parser.add_argument("--seeds", type=command.at_least(1), default=3)
    return command.main(parser, _run, list(arguments))


def test_files(tmp_path, capsys):
    out = tmp_path / "new" / "topic"
    assert _main(f"--out={out}", "--seed=7", "--seeds=2", "--quick") == 0
    assert sorted(p.name for p in out.iterdir()) == ["line.png", "results.json", "table.md"]
    assert (out / "table.md").read_text("utf-8") == (
        "| name | x |\n| --- | --- |\n| a | 2.0 ± 1.0 |\n"
    )
    record = files.read_json(out / "results.json")
    assert record["results"] == {"answer": 42}
    assert record["settings"] == {"seed": 7, "seeds": 2, "quick": True}
    assert record["quick"] is True
    assert record["command"] == "python -m tfnode.reproduce.topic"
    assert {"device", "git_commit", "versions", "started", "seconds"} <= set(record)
    assert str(tmp_path) not in (out / "results.json").read_text()
    assert all(name in capsys.readouterr().out for name in ["line.png"])


def test_results_are_replaced_only_if_asked(tmp_path, capsys):
    assert _main(f"--out={tmp_path}", "--seeds=2") == 0
    assert _main(f"--out={tmp_path}", "--seeds=3") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert files.read_json(tmp_path / "results.json")["settings"]["seeds"] == 2
    assert _main(f"--out={tmp_path}", "--seeds=3", "--overwrite") == 0
    assert files.read_json(tmp_path / "results.json")["settings"]["seeds"] == 3


def test_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _main("--quick") == 0 and _main() == 0
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == ["topic", "topic_quick"]


@pytest.mark.parametrize(
    "argument, named",
    [
        ("--unknown=1", "--unknown"),
        ("--see=1", "--see"),
        ("--seed=-1", "--seed"),
        ("--seed=1.5", "--seed"),
        ("--seed=99999999999", "--seed"),
        ("--seeds=0", "--seeds"),
        ("rest", "rest"),
    ],
)
def test_refused(argument, named, capsys):
    with pytest.raises(SystemExit) as error:
        _main(argument)
    assert error.value.code == 2
    assert named in capsys.readouterr().err


def test_errors_are_one_line(tmp_path, capsys):
    assert _main(f"--out={tmp_path}", "--seed=13") == 1
    (tmp_path / "file").touch()
    assert _main(f"--out={tmp_path / 'file'}") == 1
    assert capsys.readouterr().err.count("\n") == 2
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    "main", [study.main, tune.main, lambda a: command.parser("x", "").parse_args(a[1:])]
)
def test_out_is_not_empty(main, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["config.py", "--out="])
    assert "expected the path of a folder" in capsys.readouterr().err
