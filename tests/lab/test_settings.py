"""Settings: their rules, and that these are the rules of the library."""

import inspect
import json
import typing

import command
import pytest

from tfnode import data, gradients, models, solvers
from tfnode.lab.config_file import load, load_settings, override
from tfnode.lab.model_settings import MODELS, base
from tfnode.lab.settings import Settings, rules_for
from tfnode.layers import backward_encoder, conv_dynamics


@pytest.fixture
def config():
    return load_settings(command.CONFIGS / "ode.py")


@pytest.mark.parametrize("name", command.MODELS)
def test_configs_are_good_and_every_setting_has_a_rule_and_a_meaning(name):
    config = load_settings(command.CONFIGS / f"{name}.py")
    rules = rules_for(config.model.name)
    assert all(rule.choices or rule.range or name == "name" for name, rule in rules.items())
    assert all(rule.meaning for name, rule in rules.items() if name != "model.name")


def test_models_of_configs():
    models = {"ode", "ode_tuned", "resnet", "anode", "node", "rnode", "latent_ode", "rnn"}
    assert set(command.MODELS) >= models
    assert "base" not in command.MODELS


def test_choices_are_those_of_the_library():
    assert {*typing.get_args(base.Solver), "bdf"} == set(solvers._CLASSES)
    assert set(typing.get_args(base.Gradient)) == set(gradients._CLASSES)
    assert set(typing.get_args(base.Norm)) == set(conv_dynamics.NORMS)
    assert set(typing.get_args(base.Cell)) == set(backward_encoder.CELLS)
    stems = MODELS["resnet18"].rules()["stem"].choices
    assert stems == inspect.getmodule(models.resnet18).STEMS
    assert Settings.rules()["dataset"].choices == data.NAMES


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_a_model_are_the_arguments_of_its_function(name):
    parameters = inspect.signature(getattr(models, name)).parameters.values()
    arguments = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    fields = {k: f.default for k, f in MODELS[name].model_fields.items() if k != "name"}
    assert fields == {**arguments, **({"regularizers": None} if "regularizers" in fields else {})}


BAD = {
    "name": ["", "a/b", "..", ".hidden", None, "x" * 101, "a b"],
    "epochs": [0, True, 1.0, "1", None, 2**31],
    "learning_rate": [0.0, float("nan"), float("inf"), "1e-3", None, True],
    "deterministic": [1, "yes", None],
    "jit_compile": ["auto", 0, None],
    "schedule": ["cosine", None, 1],
    "weight_decay": [-1e-9, None, "0", float("nan")],
    "ema": [1.0, -0.1, None, True],
    "augmentation.shift": [-1.0, 29.0, None],
    "augmentation.zoom": [-0.1, 1.1],
    "augmentation.flip": [1.0],
    "validation": [1.0, -0.1, None],
    "precision": ["float16", "", None, 32],
    "model.filters": [0, -1, 2.0, True, 2**16 + 1, None],
    "model.norm": ["none", "", 1],
    "model.solver": ["rk5", "RK4", "bdf", None, 4],
    "model.gradient": ["magic", None],
    "model.augment": [-1, 0.0, None],
    "model.block": [1, None, "ode"],
    "model.num_steps": [0, 2.0, True],
    "model.tol": [1e-5, 0.0, "1e-3"],  # The first is for adaptive solvers.
    "model.name": ["vgg", None],
    "model.stem": ["small"],  # Of the other model.
    "model": [5, {}, None],
    "epoch": [3],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_bad_settings(config, name, value):
    with pytest.raises(ValueError, match="Received") as error:
        Settings.read(override(config, {name: value}))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_settings_are_refused_where_they_are_set(config):
    with pytest.raises(ValueError, match=r"epochs must be an integer from 1 to .*Received"):
        config.epochs = "ten"
    with pytest.raises(ValueError, match="epoch"):
        config.epoch = 3
    with pytest.raises(ValueError, match="filters"):
        config.model.filters = 0


@pytest.mark.parametrize("name", ["name", "model"])
def test_missing_settings(config, name):
    record = config.to_dict()
    del record[name]
    with pytest.raises(ValueError, match=f"Expected the setting {name}"):
        Settings.read(record)


def test_averages_of_weights_are_for_one_device(config):
    config.ema = 0.99
    config.check()
    config.strategy = "mirrored"
    with pytest.raises(ValueError, match="one device only"):
        config.check()


def test_settings_have_defaults():
    """So that runs that are older than a setting can be resumed."""
    settings = Settings.read(
        {"name": "x", "model": {"name": "odenet"}, "augmentation": {"zoom": 0.5}}
    )
    assert (settings.epochs, settings.schedule, settings.model.solver) == (10, "constant", "rk38")
    assert settings.augmentation.to_dict() == {"shift": 0.0, "rotation": 0.0, "zoom": 0.5}


def test_every_record_in_the_repository_can_be_read():
    paths = list((command.ROOT / "logs" / "reference").rglob("config.json"))
    assert len(paths) > 10
    for path in paths:
        record = json.loads(path.read_text())["settings"]
        assert (
            Settings.read(record).to_dict().items()
            >= {k: v for k, v in record.items() if k != "model"}.items()
        )


FORMER = """
import ml_collections
from configs import base, ode

def get_config(kind):
    if kind == "alone":
        return ml_collections.ConfigDict({"name": "x", "model": {"name": "odenet", "filters": 8}})
    config = base.get_config()
    config.name = "x"
    config.model = ml_collections.ConfigDict({"name": "odenet", "filters": 8})
    if kind == "unlocked":
        with config.unlocked():
            pass
    return config
"""


def test_config_files_of_the_former_kind(tmp_path):
    pytest.importorskip("ml_collections")
    path = tmp_path / "configs" / "mine.py"
    path.parent.mkdir()
    for name in ("__init__", "base", "ode"):
        text = (command.CONFIGS / f"{name}.py").read_text()
        (path.parent / f"{name}.py").write_text(text)
    path.write_text(FORMER)
    for kind in ("alone", "base"):
        settings = Settings.read(load(f"{path}:{kind}", {"model": dict}))
        assert (settings.name, settings.model.filters) == ("x", 8)
    with pytest.raises(ValueError, match=r"line 12.*write config\.model\.filters = 16"):
        load(f"{path}:unlocked", {"model": dict})


def test_settings_from_a_config_dict(config):
    ml_collections = pytest.importorskip("ml_collections")
    assert Settings.read(ml_collections.ConfigDict(config.to_dict())) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"model.block": False},
        {"model.num_steps": 4},
        {"model.num_steps": None, "model.tol": None},
        {"model.solver": "dopri5", "model.tol": 1e-5},
    ],
    ids=str,
)
def test_settings_of_the_block(config, changes):
    settings = Settings.read(override(config, changes))
    assert all(getattr(settings.model, k.removeprefix("model.")) == v for k, v in changes.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"model.block": False, "model.augment": 5},
        {"model.block": False, "model.num_steps": 4},
        {"model.block": False, "model.solver": "dopri5", "model.tol": 1e-5},
        {"model.block": False, "model.regularizers": {"kineticenergy": 0.1}},
        {"model.num_steps": 4, "model.solver": "dopri5"},
        {"model.tol": 1e-3, "model.solver": "rk4"},
    ],
    ids=str,
)
def test_settings_of_the_block_that_would_have_no_part(config, changes):
    with pytest.raises(ValueError, match="Received: model"):
        Settings.read(override(config, changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"model.block": False, "model.num_steps": 4},
        {"model.num_steps": 4, "model.solver": "dopri5"},
    ],
    ids=str,
)
def test_steps_of_ode_tuned_that_would_have_no_part(changes):
    settings = load_settings(command.CONFIGS / "ode_tuned.py")
    with pytest.raises(ValueError, match="Received: model.num_steps=4"):
        Settings.read(override(settings, changes))


def test_node_is_the_paper_s_counterpart_of_anode():
    """Its sizes are those whose parameters `tests/models` counts; all else is alike."""
    anode, node = (load_settings(command.CONFIGS / f"{x}.py").to_dict() for x in ("anode", "node"))
    assert node["model"] == {**anode["model"], "augment": 0, "filters": 92}
    assert {**node, "name": "anode", "model": anode["model"]} == anode
