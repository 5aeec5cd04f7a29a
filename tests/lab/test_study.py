"""The study: which cells are trained, what is made of them, and real ones in processes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image
from run_results import RECORD

from tfnode import study
from tfnode.files import history
from tfnode.lab import runner, study_results, worker
from tfnode.lab.settings import Settings
from tfnode.lab.study import read_cells
from tfnode.runs import contents, files

ROOT = pathlib.Path(study.__file__).resolve().parents[1]
FILES = {"runs", "table.md", "results.json", "loss.png", "accuracy.png", "nfe.png"}
CONFIG = """
def get_config(epochs="2"):
    settings = {settings!r}
    settings["epochs"] = int(epochs)
    return {{"seeds": {seeds!r}, "models": {{"a": settings, "b": {{**settings}}}}}}
"""
SETTINGS = {
    "dataset": "digits",
    "batch_size": 64,
    "learning_rate": 1e-3,
    "deterministic": True,
    "model": {"name": "odenet", "filters": 2, "solver": "euler", "gradient": "backprop"},
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "configs" / "small.py"
    path.parent.mkdir()
    path.write_text(CONFIG.format(settings=SETTINGS, seeds=(0, 1, 5)))
    return path


def rows(model, seed, epochs):
    """A history that differs by model and seed, and is easy to recompute."""
    nfe = {"a": 4.0 + seed, "b": None}[model]
    return [
        {
            "epoch": n,
            "loss": (1.0 + seed) / n,
            "accuracy": 0.5 + 0.1 * n,
            "val_loss": (2.0 + seed) / n,
            "val_accuracy": 0.4 + 0.1 * n + 0.01 * seed,
            "learning_rate": 1e-3,
            "seconds": 3.0 * n,
            "nfe_forward": nfe,
            "nfe_backward": nfe,
        }
        for n in range(1, epochs + 1)
    ]


class Trainer:
    """Takes the place of `worker.start`: makes run directories at once."""

    def __init__(self):
        self.started, self.broken, self.test, self.constant = [], {}, None, None

    def __call__(self, path, settings, log, data_dir=None, threads=None):
        settings = settings.to_dict()
        self.started.append((path.name, contents.holds_run(path), data_dir, threads))
        log.write_text(f"starts\n{self.broken.get(path.name, 'ends')}\n\n")
        path.mkdir(exist_ok=True)
        record = {**RECORD, "settings": settings, "device": "CPU"}
        files.write_json(path / contents.CONFIG, record)
        status = 1
        if path.name not in self.broken:
            status = 0
            epochs = rows(settings["name"], settings["seed"], settings["epochs"])
            history.write_history(path / contents.HISTORY, epochs)
            metrics = {
                "dataset": "digits",
                "parameters": 1234,
                "epochs": settings["epochs"],
                "median_seconds_per_epoch": 3.5 + settings["seed"],
                "peak_memory_mib": 800.0,
                "constant_score": self.constant,
                "test": self.test,
            }
            files.write_json(path / contents.METRICS, metrics)
        return types.SimpleNamespace(returncode=status, poll=lambda: status)


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(worker, "start", trainer)
    monkeypatch.setattr(runner, "SECONDS", 0.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return trainer


@pytest.fixture
def no_figures(monkeypatch):
    """They take most of the time."""
    monkeypatch.setattr(study_results, "_figures", lambda *_: {})


def names(trainer):
    return [started[0] for started in trainer.started]


def test_every_model_and_seed_once(config, trainer, tmp_path):
    out = tmp_path / "new" / "study"
    assert study.main([str(config), f"--out={out}"]) == 0
    assert names(trainer) == ["a-0", "b-0", "a-1", "b-1", "a-5", "b-5"]
    assert {p.name for p in out.iterdir()} == FILES
    for name in ("loss", "accuracy", "nfe"):
        with Image.open(out / f"{name}.png") as image:
            image.load()
    # Again: from files alone, and the same.
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    assert study.main([str(config), f"--out={out}"]) == 0
    assert len(trainer.started) == 6
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before


@pytest.mark.usefixtures("no_figures")
def test_means_and_standard_deviations(config, trainer, tmp_path):
    assert study.main([str(config), f"--out={tmp_path / 's'}"]) == 0
    results = json.loads((tmp_path / "s" / "results.json").read_text())
    found = results["models"]["a"]
    last = [rows("a", seed, 2)[-1] for seed in (0, 1, 5)]
    assert found["seeds"] == [0, 1, 5]
    assert found["settings"]["model"].items() >= SETTINGS["model"].items()
    assert "seed" not in found["settings"]
    for name in ("test_accuracy", "test_loss", "nfe_forward", "nfe_backward"):
        values = [row[name.replace("test", "val")] for row in last]
        assert found[name]["values"] == values
        np.testing.assert_allclose(found[name]["mean"], np.mean(values), rtol=1e-12)
        np.testing.assert_allclose(found[name]["sd"], np.std(values, ddof=1), rtol=1e-12)
    assert results["models"]["b"]["nfe_forward"] == {"values": [], "mean": None, "sd": None}
    assert [run["seed"] for run in results["runs"]] == [0, 0, 1, 1, 5, 5]
    # 100 * (0.6 + 0.01 * [0, 1, 5]); 1 + [0, 1, 5] / 2; 4 + [0, 1, 5]; 3.5 + [0, 1, 5].
    assert (tmp_path / "s" / "table.md").read_text("utf-8").splitlines()[2] == (
        "| a | 3 | 1,234 | 62.00 ± 2.65 | 2.0000 ± 1.3229 | 6.0 ± 2.6 | 6.0 ± 2.6 | 5.5 ± 2.6 "
        "| 800 ± 0 |"
    )


@pytest.mark.usefixtures("no_figures")
def test_the_test_set_beside_a_validation_split(config, trainer, tmp_path):
    trainer.test = {"loss": 0.25, "accuracy": 0.75}
    assert study.main([str(config), f"--out={tmp_path / 's'}"]) == 0
    results = json.loads((tmp_path / "s" / "results.json").read_text())
    assert results["models"]["a"]["test_accuracy"] == {
        "values": [0.75] * 3,
        "mean": 0.75,
        "sd": 0.0,
    }
    assert results["models"]["a"]["test_loss"]["mean"] == 0.25


@pytest.mark.usefixtures("no_figures")
def test_the_most_frequent_class_stands_below_the_models(config, trainer, tmp_path):
    trainer.constant = 0.1125
    assert study.main([str(config), f"--out={tmp_path / 's'}"]) == 0
    results = json.loads((tmp_path / "s" / "results.json").read_text())
    assert results["constants"] == {"digits": 0.1125}
    assert (tmp_path / "s" / "table.md").read_text("utf-8").splitlines()[4:] == [
        "| most frequent class | - | 0 | 11.25 | - | - | - | - | - |"
    ]


@pytest.mark.usefixtures("no_figures")
def test_one_that_fails_is_reported_and_stops_no_other(config, trainer, tmp_path, capsys):
    trainer.broken = {"a-1": "The disk is full."}
    arguments = [str(config), f"--out={tmp_path / 's'}"]
    assert study.main(arguments) == 1
    assert len(trainer.started) == 6
    assert "a-1: The disk is full.; see" in capsys.readouterr().out
    table = (tmp_path / "s" / "table.md").read_text("utf-8")
    assert "| a | 2 |" in table
    assert "Not in the table: a, seed 1: The disk is full." in table
    results = json.loads((tmp_path / "s" / "results.json").read_text())
    assert list(results["failed"]) == ["a-1"]
    # It is resumed, and nothing else is trained.
    trainer.broken, trainer.started = {}, []
    assert study.main([*arguments, "--data_dir=there"]) == 0
    assert trainer.started == [("a-1", True, "there", None)]
    assert "Not in the table" not in (tmp_path / "s" / "table.md").read_text("utf-8")


@pytest.mark.usefixtures("no_figures")
def test_all_that_fail(config, trainer, tmp_path):
    trainer.broken = {f"{model}-{seed}": "No." for model in "ab" for seed in (0, 1, 5)}
    assert study.main([str(config), f"--out={tmp_path / 's'}"]) == 1
    assert "| a | 0 | - | - |" in (tmp_path / "s" / "table.md").read_text("utf-8")


@pytest.mark.usefixtures("no_figures")
def test_one_that_diverged_is_not_tried_again(config, trainer, tmp_path):
    arguments = [str(config), f"--out={tmp_path / 's'}"]
    assert study.main(arguments) == 0
    path = tmp_path / "s" / "runs" / "b-5" / contents.METRICS
    files.write_json(path, {**files.read_json(path), "diverged": True, "epochs": 1})
    trainer.started = []
    assert study.main(arguments) == 1
    assert trainer.started == []
    table = (tmp_path / "s" / "table.md").read_text("utf-8")
    assert "Not in the table: b, seed 5: diverged; see" in table


@pytest.mark.usefixtures("no_figures")
def test_two_at_once(config, trainer, tmp_path, monkeypatch, capsys):
    """The second is refused, and touches nothing."""
    arguments, second = [str(config), f"--out={tmp_path / 's'}"], []

    def start(*task):
        if not second:
            second.append(study.main(arguments))
        return trainer(*task)

    monkeypatch.setattr(worker, "start", start)
    assert study.main(arguments) == 0
    assert second == [1]
    message = capsys.readouterr().err
    assert "in use by another process" in message and "choose another --out" in message
    assert len(trainer.started) == 6
    assert study.main(arguments) == 0


def test_the_log_of_a_worker_is_no_link(tmp_path):
    """The file that it would point to is not written to."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a.log").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        worker.start(tmp_path / "a", Settings.read({"name": "a", **SETTINGS}), tmp_path / "a.log")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.usefixtures("no_figures")
def test_more_epochs_go_on_with_every_run(config, trainer, tmp_path):
    assert study.main([str(config), f"--out={tmp_path / 's'}"]) == 0
    trainer.started = []
    assert study.main([f"{config}:3", f"--out={tmp_path / 's'}", "--jobs=2"]) == 0
    assert [started[:2] for started in trainer.started][:2] == [("a-0", True), ("b-0", True)]
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert {started[3] for started in trainer.started} == {threads}


@pytest.mark.usefixtures("no_figures")
def test_runs_with_other_settings_are_refused(config, trainer, tmp_path, capsys):
    arguments = [str(config), f"--out={tmp_path / 's'}"]
    assert study.main(arguments) == 0
    config.write_text(config.read_text().replace("0.001", "0.01"))
    trainer.started = []
    assert study.main(arguments) == 2
    assert trainer.started == []
    assert "learning_rate=0.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "path of a config file"),
        ("x = 1", "get_config"),
        ("def get_config(): return 5", "a dict"),
        ("def get_config(): return {'seeds': (0,)}", "models=None"),
        ("def get_config(): return {'seeds': 3, 'models': {}}", "seeds, a tuple or list,"),
        ("def get_config(): return {'seeds': (), 'models': {}}", "seeds=()"),
        ("def get_config(): return {'seeds': (1, 1), 'models': {}}", "seeds=(1, 1)"),
        ("def get_config(): return {'seeds': (0,), 'models': {}}", "models={}"),
        ("def get_config(): return {'seeds': [0], 'models': {'a': {}}}", "Model 'a' of "),
        ("def get_config(): return {'seeds': (0,), 'models': {'a': 3}}", "a dict. Received: 3"),
        ("def get_config(): return {'seeds': (0,), 'models': {}, 'epochs': 1}", "epochs"),
        ("def get_config(): return {'seeds': ([],), 'models': {'a': {}}}", "the setting"),
        ("def get_config():\n  return 1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("def get_config(x): return 5", "'x'"),
        ("def get_config(: return 5", "SyntaxError"),
        ("import nowhere", "No module named 'nowhere' (line 1)"),
        ("exit(3)", "SystemExit: 3"),
    ],
)
def test_config_files_that_are_not_right(tmp_path, trainer, capsys, text, message):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    assert study.main([str(path), f"--out={tmp_path / 's'}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_folder_that_cannot_be_made(config, trainer, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert study.main([str(config), f"--out={tmp_path / 'file' / 's'}"]) == 1
    expected = f"Cannot write to {tmp_path / 'file' / 's' / 'runs'}: "
    message = capsys.readouterr().err
    assert expected in message and "Choose another --out." in message
    assert not trainer.started


def test_a_folder_without_data_is_refused_before_anything(config, trainer, tmp_path, capsys):
    arguments = [str(config), f"--out={tmp_path / 's'}", f"--data_dir={tmp_path / 'nowhere'}"]
    config.write_text(config.read_text().replace("digits", "mnist"))
    assert study.main(arguments) == 1
    assert "data folder does not exist" in capsys.readouterr().err
    assert not trainer.started and not (tmp_path / "s").exists()


def test_get_config_may_import_what_lies_above(config, tmp_path):
    (tmp_path / "beside_configs.py").touch()
    text = config.read_text().replace("    settings =", "    import beside_configs\n    settings =")
    config.write_text(text)
    assert len(read_cells(config, tmp_path / "s")) == 6


def test_the_studies_in_configs():
    for name in ("study.py", "study.py:mnist"):
        cells = read_cells(ROOT / "configs" / name, "out")
        assert len(cells) == len({c.experiment.path for c in cells}) == 18


def test_a_worker_ends_with_the_process_that_started_it():
    command = [sys.executable, "-c", "from tfnode.lab import worker; worker._end_with_parent()"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.stdin.close()
        assert process.wait(timeout=60) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_real_cells_killed_and_resumed(number, status, config, tmp_path):
    config.write_text(config.read_text().replace("(0, 1, 5)", "(0,)"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "tfnode.study", str(config)]
    subprocess.run([*command, f"--out={whole}", "--jobs=2"], cwd=ROOT, check=True)
    process = subprocess.Popen([*command, f"--out={killed}"], cwd=ROOT)
    checkpoint = killed / "runs" / "a-0" / contents.CHECKPOINTS / contents.LATEST
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() == status
    assert not (killed / "table.md").exists()
    subprocess.run([*command, f"--out={killed}"], cwd=ROOT, check=True)
    found = [json.loads((out / "results.json").read_text())["models"] for out in (whole, killed)]
    for model in "ab":
        assert found[0][model]["nfe_forward"] == found[1][model]["nfe_forward"]
        # Threads, of which there are fewer in each of two jobs, change the order of sums.
        losses = [models[model]["test_loss"]["mean"] for models in found]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert found[0]["a"]["peak_memory_mib"]["mean"] > 100
