"""The search for settings: its trials, what becomes of them, and what is written."""

import json
import pathlib
import signal
import types

import pytest
from PIL import Image

from tfnode import tune
from tfnode.files import history, plots
from tfnode.lab import runner, worker
from tfnode.lab.search_space import read_config
from tfnode.lab.settings import Settings
from tfnode.runs import contents
from tfnode.runs.lock import locked

ROOT = pathlib.Path(tune.__file__).resolve().parents[1]
FILES = {"runs", "optuna.log", "table.md", "results.json", "best.json", "tuning.png"}
CONFIG = {
    "model": "ode",
    "settings": {"dataset": "digits", "epochs": 4, "validation": 0.2},
    "search": {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "model.filters": {"low": 2, "high": 8, "step": 2},
        "model.solver": {"choices": ("euler", "rk4")},
    },
    "trials": 12,
    "seed": 0,
}


def write(folder, **changes):
    """A config file with some entries changed, beside that of the model."""
    folder.mkdir(exist_ok=True)
    (folder / "ode.py").write_text((ROOT / "configs" / "ode.py").read_text())
    path = folder / "search.py"
    path.write_text(f"def get_config(): return { ({**CONFIG, **changes})!r}")
    return path


class Trainer:
    """Takes the place of `worker.start`: the more filters, the better, and little else matters."""

    def __init__(self):
        self.settings, self.stopped, self.broken = [], [], set()

    def start(self, path, settings, log, data_dir=None, threads=None):
        settings = settings.to_dict()
        self.settings.append(settings)
        log.write_text("It is broken.\n")
        path.mkdir(exist_ok=True)
        number = len(self.settings) - 1
        epochs = iter(range(1, settings["epochs"] + 1))
        process = types.SimpleNamespace(returncode=int(number in self.broken), number=number)
        rows = []

        def poll():
            epoch = next(epochs, None)
            if epoch is None or process.returncode:
                return process.returncode
            accuracy = 0.1 * settings["model"]["filters"] + 0.01 * epoch
            accuracy += 0.001 * (settings["model"]["solver"] == "rk4")
            values = dict.fromkeys(history.HISTORY_COLUMNS, 1.0)
            rows.append({**values, "epoch": epoch, "val_accuracy": accuracy})
            history.write_history(path / contents.HISTORY, rows)
            return None

        process.poll = poll
        return process

    def stop(self, process):
        self.stopped.append(process.number)


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(worker, "start", trainer.start)
    monkeypatch.setattr(worker, "stop", trainer.stop)
    monkeypatch.setattr(runner.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.syspath_prepend(str(ROOT))
    return trainer


def test_search(trainer, tmp_path, monkeypatch):
    path, out = write(tmp_path / "configs"), tmp_path / "out"
    assert tune.main([str(path), f"--out={out}"]) == 0
    assert len(trainer.settings) == 12
    for number, chosen in enumerate(trainer.settings):
        Settings.read(chosen)
        assert chosen["name"] == f"trial-{number}"
        assert chosen["validation"] == 0.2
        assert chosen["model"]["filters"] in (2, 4, 6, 8)
        assert 1e-4 <= chosen["learning_rate"] <= 1e-1
    assert {p.name for p in out.iterdir()} == FILES
    with Image.open(out / "tuning.png") as image:
        image.load()
    results = json.loads((out / "results.json").read_text())
    assert [trial["trial"] for trial in results["trials"]] == list(range(12))
    assert sum(results["importances"].values()) == pytest.approx(1.0)
    assert max(results["importances"], key=results["importances"].get) == "model.filters"
    # Those behind the median were stopped, after the second epoch at the earliest.
    stopped = [t["trial"] for t in results["trials"] if t["state"] == "pruned"]
    assert stopped == trainer.stopped
    assert stopped and min(stopped) >= 5
    for trial in results["trials"]:
        epochs = len(trial["validation_accuracy"])
        assert 2 <= epochs < 4 if trial["trial"] in stopped else epochs == 4
    best = json.loads((out / "best.json").read_text())
    finished = [t for t in results["trials"] if t["state"] == "complete"]
    top = max(finished, key=lambda t: t["validation_accuracy"][-1])
    assert (best["trial"], best["params"]) == (top["trial"], top["params"])
    assert best["validation_accuracy"] == top["validation_accuracy"][-1]
    assert best["settings"]["validation"] == 0.0
    Settings.read(best["settings"])
    assert f"--config.model.filters={top['params']['model.filters']}" in best["command"]
    assert best["command"].startswith("python train.py --model=ode --config.dataset=digits ")
    assert f"| {top['trial']} | 4 | " in (out / "table.md").read_text("utf-8")


def test_the_command_gives_the_best_settings(trainer, tmp_path):
    import command

    path, out = write(tmp_path / "configs", trials=1), tmp_path / "out"
    assert tune.main([str(path), f"--out={out}"]) == 0
    best = json.loads((out / "best.json").read_text())
    arguments = best["command"].split()[2:]
    status, message, options = command.run([*arguments, f"--log_dir={tmp_path / 'run'}"])
    assert status == 0, message
    assert options.settings.to_dict() == best["settings"]


def test_the_figure_names_choices(trainer, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    search = {"model.filters": {"choices": (2, 8)}, "model.solver": {"choices": ("euler", "rk4")}}
    path = write(tmp_path / "configs", search=search)
    assert tune.main([str(path), f"--out={tmp_path / 'out'}"]) == 0
    right = drawn[0].axes[-1]
    drawn[0].canvas.draw()
    assert right.get_xlabel() == "model.filters"
    assert {label.get_text() for label in right.get_xticklabels()} == {"2", "8"}


def test_gone_on_with(trainer, tmp_path, capsys):
    arguments = [str(write(tmp_path / "configs", trials=3)), f"--out={tmp_path / 'out'}"]
    assert tune.main(arguments) == 0
    assert tune.main(arguments) == 0
    assert len(trainer.settings) == 3
    write(tmp_path / "configs", trials=6)
    assert tune.main(arguments) == 0
    assert len(trainer.settings) == 6
    assert len({chosen["learning_rate"] for chosen in trainer.settings}) == 6
    write(tmp_path / "configs", seed=1)
    assert tune.main(arguments) == 2
    assert "begun with another config" in capsys.readouterr().err


def test_broken_off_in_the_middle_of_a_trial(trainer, tmp_path, monkeypatch):
    arguments = [str(write(tmp_path / "configs", trials=2)), f"--out={tmp_path / 'out'}"]
    with monkeypatch.context() as patch:
        patch.setattr(runner.time, "sleep", lambda seconds: (_ for _ in ()).throw(SystemExit(143)))
        with pytest.raises(SystemExit):
            tune.main(arguments)
    assert trainer.stopped == [0]
    assert tune.main(arguments) == 0
    # The same settings anew, in a folder of their own, and one more.
    first, again, last = trainer.settings
    assert {**first, "name": ""} == {**again, "name": ""} != {**last, "name": ""}
    assert first["name"] != again["name"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["trials"]) == 2


def test_trials_that_fail_are_reported_and_count(trainer, tmp_path, capsys):
    trainer.broken = {0}
    arguments = [str(write(tmp_path / "configs", trials=1)), f"--out={tmp_path / 'out'}"]
    assert tune.main(arguments) == 1
    assert "No trial was finished" in capsys.readouterr().err
    write(tmp_path / "configs", trials=2)
    assert tune.main(arguments) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["trials"][0]["failed"].startswith("It is broken.; see")
    assert "| 0 | 0, failed | - |" in (tmp_path / "out" / "table.md").read_text("utf-8")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"settings": {"validation": 0.0}}, "a part of the training set"),
        ({"settings": {"epochs": 0, "validation": 0.2}}, "epochs=0"),
        ({"settings": {"epoch": 3, "validation": 0.2}}, "epoch=3"),
        ({"settings": {"epochs.x": 3, "validation": 0.2}}, "epochs.x"),
        ({"settings": {1: 3}}, "Received: 1"),
        ({"search": {}}, "search={}"),
        ({"search": {"epochs": (1, 2)}}, "epochs=(1, 2)"),
        ({"search": {"epochs": {"low": 1}}}, "epochs={'low': 1}"),
        ({"search": {"model.filter": {"choices": (1, 2)}}}, "model.filter="),
        ({"search": {"validation": {"choices": (0.1, 0.2)}}}, "validation="),
        ({"search": {"batch_size": {"choices": 3}}}, "one or more choices for batch_size"),
        ({"search": {"batch_size": {"choices": ()}}}, "one or more choices for batch_size"),
        ({"search": {"model.solver": {"choices": ("rk4", "rk5")}}}, "model.solver='rk5'"),
        ({"search": {"model.filters": {"low": -2, "high": 4}}}, "model.filters=-2"),
        ({"search": {"model.filters": {"low": 8, "high": 4}}}, "low <= high for model.filters"),
        ({"search": {"ema": {"low": 0.0, "high": 0.9, "log": True}}}, "log=True only above 0"),
        ({"search": {"ema": {"low": 0.0, "high": 0.9, "lgo": True}}}, "'lgo'"),
        ({"search": {"ema": {"low": "a", "high": "b"}}}, "ema='a'"),
        ({"search": {"batch_size": {"low": 1, "high": 9, "step": 0.5}}}, "whole where low"),
        ({"seed": -1}, "seed=-1"),
        ({"trials": 0}, "trials=0"),
        ({"trials": None}, "trials=None"),
        ({"model": "vgg"}, "beside"),
        ({"search": {"model.stem": {"choices": ("small",)}}}, "to search for the model odenet"),
        ({"trails": 4}, "Received: trails"),
    ],
)
def test_configs_that_are_not_right(trainer, tmp_path, capsys, changes, message):
    path = write(tmp_path / "configs", **changes)
    assert tune.main([str(path), f"--out={tmp_path / 'out'}"]) == 2
    assert message in capsys.readouterr().err
    assert trainer.settings == []


def test_choices_that_do_not_go_together_are_trials_that_failed(trainer, tmp_path, capsys):
    search = {"model.block": {"choices": (False,)}, "model.augment": {"choices": (0, 2)}}
    path = write(tmp_path / "configs", search={**CONFIG["search"], **search}, trials=6)
    assert tune.main([str(path), f"--out={tmp_path / 'out'}"]) == 0
    trials = json.loads((tmp_path / "out" / "results.json").read_text())["trials"]
    failed = [t for t in trials if "must be 0 without the ODE block" in t.get("failed", "")]
    assert 0 < len(failed) < len(trials) == 6
    assert all(t["params"]["model.augment"] == 2 for t in failed)
    assert len(trainer.settings) == 6 - len(failed)


def test_the_command_gives_settings_that_are_none(trainer, tmp_path):
    search = {"model.norm": {"choices": (None,)}, "model.num_steps": {"choices": (None,)}}
    path = write(tmp_path / "configs", search=search, trials=1)
    assert tune.main([str(path), f"--out={tmp_path / 'out'}"]) == 0
    command = json.loads((tmp_path / "out" / "best.json").read_text())["command"]
    assert "--config.model.norm=None" in command
    assert "--config.model.num_steps=None" in command


def test_a_folder_without_data_is_refused_before_anything(trainer, tmp_path, capsys):
    path = write(tmp_path / "configs", settings={**CONFIG["settings"], "dataset": "mnist"})
    arguments = [str(path), f"--out={tmp_path / 'out'}", f"--data_dir={tmp_path / 'nowhere'}"]
    assert tune.main(arguments) == 1
    assert "data folder does not exist" in capsys.readouterr().err
    assert trainer.settings == [] and not (tmp_path / "out").exists()


def test_the_search_in_configs(trainer):
    space = read_config(ROOT / "configs" / "tune.py")
    assert space.base.model.name == "odenet"
    assert space.config["trials"] == 20


def test_two_at_once(trainer, tmp_path, capsys):
    """The second is refused; a link in place of Optuna's file is, too."""
    path, out = write(tmp_path / "configs", trials=1), tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    with locked(out / "runs"):
        assert tune.main([str(path), f"--out={out}"]) == 1
    message = capsys.readouterr().err
    assert "in use by another process" in message and "choose another --out" in message
    (tmp_path / "mine").write_text("mine")
    (out / "optuna.log").symlink_to(tmp_path / "mine")
    assert tune.main([str(path), f"--out={out}"]) == 1
    assert "no link" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"
