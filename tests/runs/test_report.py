"""The report: figures and tables from files alone."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

import tfnode
from tfnode import report
from tfnode.files import history, plots
from tfnode.runs import contents, files
from tfnode.runs.report import write_report

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]
FIGURES = [
    "training_loss.png",
    "training_accuracy.png",
    "testing_loss.png",
    "testing_accuracy.png",
]
FILES = sorted([*FIGURES, "table.md", "table.json"])


def _make_run(folder, epochs=3, nfe=4.0, **metrics):
    """A run directory with curves that are easy to recompute."""
    folder.mkdir(parents=True)
    rows = [
        {
            "epoch": n,
            "loss": 1 / n,
            "accuracy": 0.9 + 0.01 * n,
            "val_loss": 2 / n,
            "val_accuracy": 0.88 + (0.01 if n == 2 else 0.0),
            "learning_rate": 1e-3,
            "seconds": 10.0 / n,
            "nfe_forward": nfe,
            "nfe_backward": nfe,
        }
        for n in range(1, epochs + 1)
    ]
    history.write_history(folder / contents.HISTORY, rows)
    metrics = {"dataset": "mnist", "parameters": 12345, **metrics}
    files.write_json(folder / contents.METRICS, metrics)
    return folder


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_files_of_the_report(tmp_path, capsys):
    runs = [_make_run(tmp_path / "logs" / "ode"), _make_run(tmp_path / "logs" / "resnet", nfe=None)]
    out = tmp_path / "new" / "report"
    assert report.main([*map(str, runs), "--out", str(out)]) == 0
    assert _names(out) == FILES
    for name in FIGURES:
        with Image.open(out / name) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 300
            assert len(set(image.convert("RGB").getdata())) > 10
    printed = capsys.readouterr()
    assert all(str(out / name) in printed.out for name in FILES)
    assert printed.err == ""


def test_figures_differ_and_repeat(tmp_path):
    runs = [_make_run(tmp_path / "a"), _make_run(tmp_path / "b", epochs=2)]
    write_report(runs, tmp_path / "one")
    write_report(runs, tmp_path / "two")
    contents = {name: (tmp_path / "one" / name).read_bytes() for name in FILES}
    assert len(set(contents.values())) == len(FILES)
    for name in FILES:
        assert (tmp_path / "two" / name).read_bytes() == contents[name]


def test_each_figure_draws_its_column(tmp_path, monkeypatch):
    drawn = []

    def record(axis, curves, ylabel):
        drawn.append((ylabel, curves))
        return {}

    monkeypatch.setattr(plots, "draw_curves", record)
    write_report([_make_run(tmp_path / "a"), _make_run(tmp_path / "b")], tmp_path / "out")
    assert [label for label, _ in drawn] == [
        "training loss",
        "training accuracy",
        "testing loss",
        "testing accuracy",
    ]
    curves = dict(drawn)
    assert list(curves["testing loss"]) == ["a", "b"]
    assert curves["training loss"]["a"] == ([1, 2, 3], [1, 1 / 2, 1 / 3])
    assert curves["testing loss"]["b"] == ([1, 2, 3], [2, 1, 2 / 3])
    assert curves["testing accuracy"]["a"][1] == pytest.approx([0.88, 0.89, 0.88])


def test_table(tmp_path):
    runs = [
        _make_run(tmp_path / "ode"),
        _make_run(tmp_path / "resnet", nfe=None, dataset="digits", parameters=11_000_000),
    ]
    write_report(runs, tmp_path / "out")
    ode, resnet = json.loads((tmp_path / "out" / "table.json").read_text())["runs"]
    assert ode["run"] == "ode"
    assert ode["dataset"] == "mnist"
    assert ode["parameters"] == 12345
    assert ode["epochs"] == 3
    assert ode["accuracy"] == pytest.approx(0.93)
    assert ode["val_accuracy"] == pytest.approx(0.88)
    assert ode["best_val_accuracy"] == pytest.approx(0.89)
    assert ode["largest_gap"] == pytest.approx(0.05)
    assert ode["seconds_per_epoch"] == 5.0
    assert ode["nfe_forward"] == ode["nfe_backward"] == 4.0
    assert resnet["nfe_forward"] is None

    header, rule, first, second = (tmp_path / "out" / "table.md").read_text().splitlines()
    cells = [c.strip() for c in header.strip("|").split("|")]
    assert cells[0] == "run"
    assert set(rule) == set("|- ")
    values = dict(zip(cells, (c.strip() for c in first.strip("|").split("|"))))
    assert values["run"] == "ode"
    assert values["parameters"] == "12,345"
    assert values["test accuracy"] == "88.00 %"
    assert values["best test accuracy"] == "89.00 %"
    assert values["largest gap"] == "5.00 points"
    assert values["NFE forward"] == "4"
    values = dict(zip(cells, (c.strip() for c in second.strip("|").split("|"))))
    assert values["data"] == "digits"
    assert values["NFE forward"] == "-"


def test_mean_of_runs_of_one_name(tmp_path):
    """And a run with a validation split shows the test set's figure, not that of the split."""
    runs = [
        _make_run(tmp_path / "a", name="tuned", test={"loss": 0.1, "accuracy": 0.95}),
        _make_run(tmp_path / "b", name="tuned", test={"loss": 0.1, "accuracy": 0.97}),
        _make_run(tmp_path / "c", name="tuned", epochs=2),
        _make_run(tmp_path / "d", name="other"),
        _make_run(tmp_path / "e", name="tuned"),
    ]
    for run, rate, seed in ((runs[0], 0.1, 0), (runs[1], 0.1, 1), (runs[4], 0.2, 2)):
        settings = {"learning_rate": rate, "seed": seed}
        (run / "config.json").write_text(json.dumps({"settings": settings}))
    write_report(runs, tmp_path / "out")
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    a, _, c, *_ = table["runs"]
    assert (a["val_accuracy"], a["best_val_accuracy"], a["largest_gap"]) == (0.95, None, None)
    assert c["val_accuracy"] == pytest.approx(0.89)
    (mean,) = table["means"]
    assert (mean["name"], mean["runs"], mean["epochs"]) == ("tuned", 2, 3)
    assert mean["val_accuracy"] == pytest.approx(0.96)
    assert mean["val_accuracy_deviation"] == pytest.approx(0.01 * 2**0.5)
    *_, last = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert last.startswith("| tuned: mean of 2 | mnist | 12,345 | 3 | 93.00 % ± 0.00 % | ")
    assert "| 96.00 % ± 1.41 % |" in last


def test_one_seed_twice_has_no_mean(tmp_path):
    runs = [_make_run(tmp_path / name, name="ode") for name in "abc"]
    for run, seed in zip(runs, (0, 0, 1)):
        (run / "config.json").write_text(json.dumps({"settings": {"seed": seed}}))
    for chosen, expected in ((runs[:2], 0), (runs, 0), (runs[1:], 1)):
        write_report(chosen, tmp_path / "out")
        table = json.loads((tmp_path / "out" / "table.json").read_text())
        assert len(table["means"]) == expected


def test_the_table_is_printed(tmp_path, capsys):
    runs = [_make_run(tmp_path / "ode"), _make_run(tmp_path / "a_long_name")]
    assert report.main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    header, first, second, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["run", "data"]
    assert first.split()[:3] == ["ode", "mnist", "12,345"]
    assert first.index("mnist") == second.index("mnist") == header.index("data")
    assert "|" not in header


def test_different_data_are_said(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        plots, "draw_curves", lambda axis, curves, ylabel: drawn.append([*curves]) or {}
    )
    runs = [_make_run(tmp_path / "a"), _make_run(tmp_path / "b", dataset="digits")]
    assert report.main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "on different data" in printed and "mnist: a; digits: b." in printed
    assert drawn == [["a on mnist", "b on digits"]] * 4
    assert report.main([str(runs[0]), "--out", str(tmp_path / "one")]) == 0
    assert "different data" not in capsys.readouterr().out


def _make_series_run(folder):
    """A run that is judged by RMSE, of which less is better."""
    _make_run(folder)
    rows = [
        {**dict.fromkeys(history.history_columns("rmse")), "epoch": n, "val_rmse": value}
        for n, value in enumerate((0.5, 0.25, 0.375), 1)
    ]
    history.write_history(folder / contents.HISTORY, rows)
    return folder


def test_runs_judged_by_rmse(tmp_path):
    write_report([_make_series_run(tmp_path / "latent_ode")], tmp_path / "out")
    assert _names(tmp_path / "out") == sorted(name.replace("accuracy", "rmse") for name in FILES)
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text())["runs"]
    assert (row["val_rmse"], row["best_val_rmse"]) == (0.375, 0.25)
    header, _, line = (tmp_path / "out" / "table.md").read_text().splitlines()
    cells = ([c.strip() for c in text.strip("|").split("|")] for text in (header, line))
    values = dict(zip(*cells))
    assert values["test RMSE"] == "0.3750"
    assert values["best test RMSE"] == "0.2500"
    assert not any("accuracy" in name or "gap" in name for name in values)


def test_runs_of_different_scores(tmp_path, capsys):
    runs = [_make_run(tmp_path / "ode"), _make_series_run(tmp_path / "latent_ode")]
    assert report.main([*map(str, runs), "--out", str(tmp_path / "out")]) == 1
    assert "Expected runs of one score" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_finished(tmp_path, capsys):
    run = _make_run(tmp_path / "run")
    record = {"settings": {}, "versions": {"tfnode": "0.1.0"}}
    files.write_json(run / contents.CONFIG, record)
    (run / contents.METRICS).unlink()
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "is not finished" in message and "--resume" in message
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_interrupted(tmp_path, capsys):
    run = _make_run(tmp_path / "run", interrupted=True)
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert ", interrupted " in capsys.readouterr().out


def test_a_folder_without_a_history(tmp_path, capsys):
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "Received: No such file or directory" in message and "Errno" not in message


def test_history_with_gaps(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    row = {**dict.fromkeys(history.HISTORY_COLUMNS), "epoch": 1, "loss": 0.5}
    history.write_history(run / contents.HISTORY, [row])
    files.write_json(run / contents.METRICS, {})
    write_report([run], tmp_path / "out")
    (table,) = json.loads((tmp_path / "out" / "table.json").read_text())["runs"]
    assert table["epochs"] == 1
    assert table["best_val_accuracy"] is table["largest_gap"] is table["parameters"] is None


def test_diverged_run(tmp_path):
    """A run whose loss became infinite can still be compared."""
    run = _make_run(tmp_path / "run")
    rows = history.read_history(run / contents.HISTORY)
    rows[-1].update(loss=float("nan"), val_loss=float("inf"))
    history.write_history(run / contents.HISTORY, rows)
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert _names(tmp_path / "out") == FILES


def test_losses_near_the_largest_float(tmp_path):
    """Whose distances overflow in matplotlib."""
    run = _make_run(tmp_path / "run")
    rows = history.read_history(run / contents.HISTORY)
    for row, loss in zip(rows, (0.0, -2.2475656685747863e297, 1.7976931348398402e308)):
        row.update(epoch=1, loss=loss, val_loss=0.0)
    history.write_history(run / contents.HISTORY, rows)
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 0


def test_diverged_accuracy(tmp_path):
    run = _make_run(tmp_path / "run")
    rows = history.read_history(run / contents.HISTORY)
    rows[0].update(val_accuracy=float("nan"))
    rows[-1].update(accuracy=float("nan"), seconds=float("inf"))
    history.write_history(run / contents.HISTORY, rows)
    write_report([run], tmp_path / "out")
    (table,) = json.loads((tmp_path / "out" / "table.json").read_text())["runs"]
    assert table["accuracy"] is None
    assert table["best_val_accuracy"] == pytest.approx(0.89)
    assert table["largest_gap"] == pytest.approx(0.03)
    assert table["seconds_per_epoch"] == 5.0


@pytest.mark.parametrize(
    "metrics", [{"parameters": "many"}, {"parameters": True}, {"dataset": ["mnist"]}]
)
def test_metrics_of_other_types(tmp_path, capsys, metrics):
    run = _make_run(tmp_path / "run", **metrics)
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert f"must be of type {'str' if 'dataset' in metrics else 'int'}" in message
    assert str(next(iter(metrics.values()))) in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "paths, labels",
    [
        (["logs/ode"], ["ode"]),
        (["logs/ode/", "logs/resnet"], ["ode", "resnet"]),
        (["a/ode", "b/ode"], ["a/ode", "b/ode"]),
        (["a/ode", "b/ode", "b/resnet"], ["a/ode", "b/ode", "b/resnet"]),
        (["a/x/ode", "b/x/ode"], ["a/x/ode", "b/x/ode"]),
        (["logs/ode", "logs/../logs/ode-2"], ["ode", "ode-2"]),
    ],
)
def test_labels(tmp_path, paths, labels):
    for path in paths:
        if not (tmp_path / path).resolve().exists():
            _make_run((tmp_path / path).resolve())
    write_report([tmp_path / p for p in paths], tmp_path / "out")
    table = json.loads((tmp_path / "out" / "table.json").read_text())["runs"]
    assert [row["run"] for row in table] == labels


def test_label_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(_make_run(tmp_path / "ode"))
    write_report(["."], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "table.json").read_text())["runs"][0]["run"] == "ode"


@pytest.mark.filterwarnings("error:No artists")
@pytest.mark.parametrize("name", ["a|b", "cost$^$", "_hidden", "ünï", "two words"])
def test_odd_names(tmp_path, name):
    run = _make_run(tmp_path / name)
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "table.json").read_text())["runs"][0]["run"] == name
    lines = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def _bad_runs(tmp_path):
    """Arguments of the command that it should refuse, by what is wrong with them."""
    good = _make_run(tmp_path / "good")
    bad = {"no folder": [good, tmp_path / "none"], "a file": [good, good / contents.HISTORY]}
    for name in ("empty folder", "no metrics", "no history"):
        bad[name] = [good, _make_run(tmp_path / name)]
    for file in tmp_path.joinpath("empty folder").iterdir():
        file.unlink()
    (tmp_path / "no metrics" / contents.METRICS).unlink()
    (tmp_path / "no history" / contents.HISTORY).unlink()
    for name, file, content in (
        ("no epoch", contents.HISTORY, ",".join(history.HISTORY_COLUMNS) + "\n"),
        ("cut history", contents.HISTORY, ",".join(history.HISTORY_COLUMNS) + "\n1,2,"),
        ("other columns", contents.HISTORY, "a,b\n1,2\n"),
        ("cut metrics", contents.METRICS, '{"dataset": '),
        ("metrics of NaN", contents.METRICS, '{"parameters": NaN}'),
    ):
        bad[name] = [good, _make_run(tmp_path / name)]
        (tmp_path / name / file).write_text(content)
    bad["the same twice"] = [good, good]
    return bad


@pytest.mark.parametrize(
    "case",
    [
        "no folder",
        "a file",
        "empty folder",
        "no metrics",
        "no history",
        "no epoch",
        "cut history",
        "other columns",
        "cut metrics",
        "metrics of NaN",
        "the same twice",
    ],
)
def test_bad_runs_write_nothing(tmp_path, capsys, case):
    runs = _bad_runs(tmp_path)[case]
    out = tmp_path / "out"
    assert report.main([*map(str, runs), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("report: ")
    assert printed.err.count("\n") == 1
    assert str(runs[-1]) in printed.err
    assert not out.exists()


@pytest.mark.parametrize("out", ["", "file", "file/below"])
def test_out_that_cannot_be_a_folder(tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert report.main([str(_make_run(tmp_path / "run")), "--out", out]) == 1
    assert "--out" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "run"]


def test_names_that_are_no_text(tmp_path, capsys):
    name = os.fsdecode(b"r\xff\nn")
    run = _make_run(tmp_path / name)
    assert report.main([str(run), "--out", str(tmp_path / name / "out")]) == 0
    capsys.readouterr()
    assert len((tmp_path / name / "out" / "table.md").read_text("utf-8").splitlines()) == 3
    (run / contents.METRICS).unlink()
    assert report.main([str(run), "--out", str(tmp_path / name / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_out_that_cannot_be_made(tmp_path, capsys):
    run = _make_run(tmp_path / "run")
    (tmp_path / "file").touch()
    assert report.main([str(run), "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_no_runs_named(capsys):
    with pytest.raises(SystemExit) as error:
        report.main([])
    assert error.value.code == 2
    assert "RUN_DIR" in capsys.readouterr().err


def test_command_does_not_import_tensorflow(tmp_path):
    runs = [_make_run(tmp_path / "a"), _make_run(tmp_path / "b")]
    command = [sys.executable, "-X", "importtime", "-m", "tfnode.report", *map(str, runs)]
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    imported = {
        line.rsplit("|", 1)[1].strip().split(".")[0]
        for line in result.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "matplotlib" in imported
    assert not imported & {"tensorflow", "keras", "tensorflow_probability"}
    assert _names(tmp_path / "out") == FILES


def test_command_refuses_in_one_line(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "tfnode.report",
            str(tmp_path / "none"),
            "--out",
            str(tmp_path / "o"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    received = f"Received: {tmp_path / 'none'}, which does not exist"
    assert result.stderr == f"report: Expected a run directory. {received}\n"
    assert not (tmp_path / "o").exists()
