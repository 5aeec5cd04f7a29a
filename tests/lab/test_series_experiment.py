"""Experiments on time series, from the command line to the report."""

import command
import pytest

from tfnode.files import history
from tfnode.runs import contents, files
from tfnode.runs.report import write_report
from tfnode.serving.export import export

pytestmark = pytest.mark.few(2)

SMALL = {
    "latent_ode": ["--config.model.hidden_units=8", "--config.model.rnn_units=6"],
    "rnn": ["--config.model.units=6"],
}


# XLA compiles the latent ODE for tens of seconds.
@pytest.fixture(scope="module", params=[pytest.param("latent_ode", marks=pytest.mark.slow), "rnn"])
def run(request, tmp_path_factory):
    """The folder of a run of two epochs, of which the second was resumed."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    arguments = [f"--model={request.param}", f"--log_dir={folder}", "--data_dir=/nowhere"]
    settings = [*SMALL[request.param], "--config.data.points=30", "--batch_size=500"]
    settings.append("--config.schedule=constant")  # With others the epochs cannot be raised.
    assert command.run([*arguments, *settings, "--epochs=1"], main=True)[:2] == (0, "")
    status, message, _ = command.run([*arguments, "--epochs=2", "--resume"], main=True)
    assert (status, message) == (0, "")
    return folder


def test_files(run):
    names = {path.name for path in run.iterdir()}
    exports = {path.split("/")[0] for path in contents.EXPORTS.values()}
    pictures = {contents.PREDICTIONS, contents.CONFUSION}  # Those are for classifiers.
    assert names >= {*contents.CONTENTS} - exports - pictures
    rows = history.read_history(run / contents.HISTORY)
    assert tuple(rows[0]) == history.history_columns("rmse")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(row["rmse"] > 0 and row["val_rmse"] > 0 for row in rows)
    assert (rows[0]["nfe_forward"] is None) == (run.name == "rnn")
    metrics = files.read_json(run / contents.METRICS)
    assert metrics["dataset"] == "spirals"
    assert metrics["best"]["val_rmse"] == min(row["val_rmse"] for row in rows)
    record = files.read_json(run / contents.CONFIG)
    assert record["settings"]["data"] == {"points": 30, "noise": 0.3}
    assert record["dataset"]["training_samples"] == 1000
    assert "30 of 100 points" in record["dataset"]["source"]


def test_report(run, tmp_path):
    write_report([run], tmp_path / "out")
    assert "test RMSE" in (tmp_path / "out" / "table.md").read_text()


def test_saved_model(run, tmp_path):
    path, difference = export(run, "saved_model", tmp_path / "1")
    assert difference < 1e-5
    assert (path / "saved_model.pb").exists()
