"""What settings may be, and that this is what the library takes."""

import importlib.util
import inspect

import command
import ml_collections
import pytest

from tfnode import data, gradients, models, settings, solvers
from tfnode.layers import backward_encoder, conv_dynamics


def _config(name):
    path = command.ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.fixture
def config(monkeypatch):
    monkeypatch.syspath_prepend(str(command.ROOT))
    return _config("ode")


@pytest.mark.parametrize("name", command.TRAIN.MODELS)
def test_configs_are_good_and_every_setting_has_a_rule(monkeypatch, name):
    monkeypatch.syspath_prepend(str(command.ROOT))
    config = _config(name)
    settings.check(config)
    assert set(settings.names(config)) <= {"name", *settings.CHOICES, *settings.RANGES}


def test_choices_are_those_of_the_library():
    choices = settings.CHOICES
    assert set(choices["model.solver"]) | {"bdf"} == set(solvers._CLASSES)
    assert set(choices["model.gradient"]) == set(gradients._CLASSES)
    assert set(choices["model.norm"]) == set(conv_dynamics.NORMS)
    assert set(choices["model.stem"]) == set(inspect.getmodule(models.resnet18).STEMS)
    assert set(choices["dataset"]) == set(data.NAMES)
    for name, arguments in settings.MODELS.items():
        parameters = inspect.signature(getattr(models, name)).parameters.values()
        given = {argument.split(".")[0] for argument in arguments}
        assert given == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert set(choices["model.name"]) == set(settings.MODELS)
    assert set(choices["model.cell"]) == set(backward_encoder.CELLS)


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
    record = config.to_dict()
    place = record
    *path, last = name.split(".")
    for part in path:
        place = place[part]
    place[last] = value
    with pytest.raises(ValueError, match="Received") as error:
        settings.check(ml_collections.ConfigDict(record))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["epochs", "name", "model", "jit_compile"])
def test_missing_settings(config, name):
    record = config.to_dict()
    del record[name]
    with pytest.raises(ValueError, match=f"Expected the setting {name}"):
        settings.check(ml_collections.ConfigDict(record))


def test_averages_of_weights_are_for_one_device(config):
    config.ema = 0.99
    settings.check(config)
    config.strategy = "mirrored"
    with pytest.raises(ValueError, match="one device only"):
        settings.check(config)


def test_settings_of_how_to_train_have_defaults(config):
    """So that runs from before there were these settings can be resumed."""
    record = config.to_dict()
    for name in settings.DEFAULTS:
        del record[name]
    settings.check(ml_collections.ConfigDict(record))
    assert settings.complete(record) == config.to_dict()
    assert settings.complete(config.to_dict()) == config.to_dict()
    record["augmentation"] = {"zoom": 0.5}
    zoomed = {"shift": 0.0, "rotation": 0.0, "zoom": 0.5}
    assert settings.complete(record)["augmentation"] == zoomed


def test_model_settings_have_defaults(config):
    config.model = ml_collections.ConfigDict({"name": "odenet"})
    settings.check(config)


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
    config.update_from_flattened_dict(changes)
    settings.check(config)


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
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match="Received: model"):
        settings.check(config)


def test_node_is_the_paper_s_counterpart_of_anode(monkeypatch):
    """Of the sizes that `tests/models` counts the parameters of, and alike in all else."""
    monkeypatch.syspath_prepend(str(command.ROOT))
    anode, node = (_config(name).to_dict() for name in ("anode", "node"))
    assert node["model"] == {**anode["model"], "augment": 0, "filters": 92}
    assert {**node, "name": "anode", "model": anode["model"]} == anode
