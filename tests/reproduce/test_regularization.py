"""Regularised dynamics: the numbers of the table, and that a model begins anew."""

import types

import numpy as np
import pytest

from tfnode.files import plots
from tfnode.reproduce import regularization
from tfnode.runs import files


def _runs():
    rng = np.random.default_rng(0)
    return [
        {
            "weight": weight,
            "seed": seed,
            **{name: list(rng.uniform(10, 50, 8)) for name in regularization.CURVES},
        }
        for weight in (0.0, 0.1)
        for seed in (0, 1)
    ]


def test_table(tmp_path):
    runs = _runs()
    values, columns, rows = regularization._table(runs, [0.0, 0.1])
    nfe = np.array([[run[f"nfe_{way}"][-5:] for way in ("forward", "backward")] for run in runs])
    means = nfe.mean(axis=2)  # (runs, 2)
    total = means.sum(axis=1).reshape(2, 2).mean(axis=1)
    assert [row[0] for row in rows] == ["0", "0.1"]
    assert [row[-1] for row in rows] == ["1.00", f"{total[1] / total[0]:.2f}"]
    forward = means[2:, 0]
    assert rows[1][2] == f"{forward.mean():.1f} ± {forward.std(ddof=1):.1f}"
    assert len(columns) == len(rows[0])
    assert values["runs"] == runs
    figure = regularization._figure(runs, [0.0, 0.1])
    line = figure.axes[0].lines[1].get_ydata()
    np.testing.assert_allclose(line, np.mean([run["nfe_forward"] for run in runs[2:]], axis=0))
    plots.save(figure, tmp_path / "regularization.png")


@pytest.mark.parametrize("argument", ["--weights=0", "--weights=x", "--tol=-1", "--samples=8"])
def test_refused(argument, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        regularization.main([f"--out={tmp_path}", argument])
    assert error.value.code == 2
    assert argument.split("=")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_begins_anew_with_every_seed():
    options = types.SimpleNamespace(
        hidden=4, tol=1e-3, learning_rate=1e-2, quick=True, samples=128, epochs=2
    )
    samples = regularization.data()
    network = regularization.model(0.1, options)
    first, other, again = (
        regularization.train(network, 0.1, seed, samples, options) for seed in (0, 1, 0)
    )
    assert first == again
    assert first["nfe_forward"] != other["nfe_forward"] or (
        first["test_accuracy"] != other["test_accuracy"]
    )


@pytest.mark.slow
def test_command(tmp_path):
    assert regularization.main([f"--out={tmp_path}", "--quick"]) == 0
    names = ["regularization.png", "results.json", "table.md"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    record = files.read_json(tmp_path / "results.json")
    assert {run["weight"] for run in record["results"]["runs"]} == {0.0, 0.01, 0.1}
