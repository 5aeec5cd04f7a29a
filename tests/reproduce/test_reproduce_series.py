"""`reproduce.series`: which runs it trains, and what it makes of their numbers."""

import pathlib

import pytest

from tfnode import data, models
from tfnode.lab.study import read_cells
from tfnode.reproduce import series
from tfnode.runs import contents, files

ROOT = pathlib.Path(series.__file__).resolve().parents[2]
SHAPES = {"japanese_vowels": ((29, 12), 9), "basic_motions": ((100, 6), 4)}


def _results(shift=0.0):
    """Results of a study of two models, two rates and two seeds, out of order."""
    found = {}
    for name, nfe in (("gru", []), ("ode_rnn", [116.0, 116.0])):
        for missing in (0.5, 0.0):
            accuracy = [0.9 - missing + shift, 0.8 - missing + shift]
            found[f"{name}_{missing}"] = {
                "settings": {"model": {"name": name}, "data": {"missing": missing}},
                "parameters": 7000,
                "seeds": [0, 1],
                "test_accuracy": {"values": accuracy},
                "nfe_forward": {"values": nfe},
                "nfe_backward": {"values": [2 * x for x in nfe]},
                "seconds_per_epoch": {"values": [1.0, 2.0]},
            }
    return {"models": found, "constants": {"x": 0.125}}


def test_the_table():
    rows = series.table("x", series.numbers(_results()))
    assert rows == [
        ["x", "gru", "7,000", "85.0 ± 7.1", "35.0 ± 7.1", "-", "-", "1.50 ± 0.58"],
        ["x", "ode_rnn", "7,000", "85.0 ± 7.1", "35.0 ± 7.1", "116", "232", "1.50 ± 0.58"],
        ["x", "most frequent class", "0", "12.5", "12.5", "-", "-", "-"],
    ]


def test_the_figure():
    values = {name: series.numbers(_results(shift)) for name, shift in (("a", 0), ("b", 0.05))}
    figure = series.figure(values)
    titles = [f"{name} (most frequent class: 12.5 %)" for name in "ab"]
    assert [axis.get_title() for axis in figure.axes] == titles
    gru, ode_rnn = figure.axes[0].get_lines()
    assert gru.get_xdata().tolist() == [0.0, 50.0]
    assert gru.get_ydata().tolist() == pytest.approx([0.85, 0.35])
    assert ode_rnn.get_color() != gru.get_color()
    assert len(figure.axes[0].collections) == 2  # The bands.


def _cells(dataset):
    return read_cells(f"{ROOT / series.CONFIG}:{dataset}", "out")


@pytest.mark.parametrize("dataset", series.DATASETS)
def test_every_model_rate_and_seed(dataset):
    cells = _cells(dataset)
    number = {"japanese_vowels": 6, "basic_motions": 5}[dataset]
    assert len(cells) == len({cell.name for cell in cells}) == number * 4 * 5
    assert {cell.experiment.settings.dataset for cell in cells} == {dataset}
    found = {cell.experiment.settings.data_options["missing"] for cell in cells}
    assert found == {0.0, 0.3, 0.5, 0.7}
    assert {cell.experiment.settings.validation for cell in cells} == {0.0}
    assert set(series.QUICK) <= {cell.model for cell in cells}


@pytest.mark.parametrize("dataset", series.DATASETS)
def test_parameters_are_as_many_within_a_fifth(dataset):
    shape, classes = SHAPES[dataset]
    if dataset == "japanese_vowels":
        assert data.load(dataset).shape == {"input_shape": shape, "num_classes": classes}
    counts = {}
    cells = _cells(dataset)
    for cell in cells[: len(cells) // 5 : 4]:
        chosen = cell.experiment.settings.model
        model = getattr(models, chosen.name)(shape, classes, **chosen.arguments())
        counts[chosen.name] = model.count_params()
    assert len(counts) == 5
    print(counts)
    mean = sum(counts.values()) / len(counts)
    assert all(abs(count / mean - 1) < 0.2 for count in counts.values()), counts


@pytest.mark.slow
def test_quick(tmp_path):
    assert series.main(["--quick", f"--out={tmp_path}"]) == 0
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"missing.png", "results.json", "table.md", "japanese_vowels"}
    runs = tmp_path / "japanese_vowels" / "runs"
    for name in series.QUICK:
        assert files.read_json(runs / f"{name}-0" / contents.METRICS)["epochs"] == 1
    assert "| japanese_vowels | most frequent class | 0 | 8.4 | 8.4 |" in (
        (tmp_path / "table.md").read_text()
    )
