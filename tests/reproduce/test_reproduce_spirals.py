"""`reproduce.spirals`: it trains what is missing, and that alone."""

import pytest

from tfnode.lab import experiment
from tfnode.reproduce import spirals
from tfnode.runs import contents, files


@pytest.mark.slow
def test_quick(tmp_path, monkeypatch):
    arguments = ["--quick", "--seeds=1", f"--out={tmp_path}"]
    assert spirals.main(arguments) == 0
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"forecasts.png", "results.json", "table.md", "runs"}
    table = (tmp_path / "table.md").read_text()
    assert "| latent ODE, published | - | 0.1642 |" in table
    errors = files.read_json(tmp_path / "results.json")["results"]["rnn, 30 points"]
    metrics = files.read_json(tmp_path / "runs" / "rnn-30-seed0" / contents.METRICS)
    assert errors == [metrics["final"]["val_rmse"]]

    def train(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment, "run", train)
    assert spirals.main([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "table.md").read_text() == table
