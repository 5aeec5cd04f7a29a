"""Files made to attack: loading a model runs no code of the file and imports no module it names."""

import contextlib
import io
import json
import os
import pathlib
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import tfnode
from tfnode import gradients, solvers
from tfnode.layers import ConvDynamics, DenseDynamics, ODEBlock
from tfnode.runs import errors
from tfnode.serving import trained

MODULE = "tfnode_test_of_a_hostile_module"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A path that exists only if something of the attacks was run; a module that makes it."""
    mark = tmp_path / "trap" / "sprung"
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / f"{MODULE}.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\n\ndef run(*args, **kwargs):\n    return args[0]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "trap"))
    yield mark
    assert not mark.exists(), "code of the file was run"
    assert MODULE not in sys.modules


def _model():
    return keras.Sequential(
        [
            keras.Input((2,)),
            ODEBlock(DenseDynamics(3), solver="rk4", gradient=gradients.Adjoint("euler")),
            keras.layers.Dense(1, activation="tanh"),
        ]
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The members of the file of a model that can be loaded."""
    path = tmp_path_factory.mktemp("good") / "model.keras"
    model = _model()
    model.compile("adam", "mse")
    model.save(path)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def _write(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def _function(module, name, registered="function"):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": registered,
    }


def _object(module, name, config, registered=None):
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


def _attacks(mark):
    command = f"mkdir {mark}"
    return {
        "os.system": _function("os", "system", command),
        "posix.system": _function("posix", "system"),
        "eval": _function("builtins", "eval"),
        "a module on the path": _function(MODULE, "run"),
        "a module, registered": _function(MODULE, "run", f"{MODULE}>run"),
        "subprocess.Popen": _object("subprocess", "Popen", {"args": ["mkdir", str(mark)]}),
        "Popen, registered": _object(
            "subprocess", "Popen", {"args": ["mkdir", str(mark)]}, "Popen"
        ),
        "a class of a module": _object(MODULE, "Run", {}),
        "types.FunctionType": _object("types", "FunctionType", {}),
        "keras's unsafe switch": _function("keras.config", "enable_unsafe_deserialization"),
        "keras's download": _object("keras.utils", "get_file", {"origin": f"file://{mark.parent}"}),
        "keras's own imports": _object("keras.src.utils.python_utils", "func_load", {"code": ""}),
        "a lambda": {"class_name": "__lambda__", "config": {"value": _marshalled(mark)}},
        "a Lambda layer": _object("keras.layers", "Lambda", _lambda_layer(mark)),
        "a Lambda layer of a name": _object(
            "keras.layers", "Lambda", {"name": "x", "function": _function("os", "system")}
        ),
        "a TFSMLayer": _object(
            "keras.layers", "TFSMLayer", {"filepath": str(mark.parent), "name": "x"}
        ),
    }


def _lambda_layer(mark):
    return {
        "name": "x",
        "trainable": True,
        "dtype": "float32",
        "function": {
            "class_name": "__lambda__",
            "config": {"code": _marshalled(mark), "defaults": None, "closure": None},
        },
    }


def _marshalled(mark):
    """What Keras makes of a lambda that springs the trap."""
    make = str(mark)
    function = eval(f"lambda x: (__import__('os').mkdir({make!r}), x)[1]")
    layer = keras.layers.Lambda(function)
    return json.loads(json.dumps(layer.get_config()["function"]["config"]))["code"]


ATTACKS = list(_attacks(pathlib.Path("mark")))

# Where in the config of the model an object of another kind is put.
PLACES = {
    "a layer": lambda config, attack: config["layers"].__setitem__(2, attack),
    "an activation": lambda config, attack: config["layers"][2]["config"].update(activation=attack),
    "an initializer": lambda config, attack: config["layers"][2]["config"].update(
        kernel_initializer=attack
    ),
    "the dynamics": lambda config, attack: config["layers"][1]["config"].update(dynamics=attack),
    "the solver": lambda config, attack: config["layers"][1]["config"].update(solver=attack),
    "the gradient": lambda config, attack: config["layers"][1]["config"].update(gradient=attack),
    "the solver of the gradient": lambda config, attack: config["layers"][1]["config"]["gradient"][
        "config"
    ].update(solver=attack),
    "the policy": lambda config, attack: config["layers"][1]["config"].update(dtype=attack),
    "the config of the dynamics": lambda config, attack: config["layers"][1]["config"]["dynamics"][
        "config"
    ].update(activation=attack),
}


def test_the_model_itself_loads(good, tmp_path):
    path = _write(tmp_path / "model.keras", good)
    trained.model_file(path.parent)
    model = keras.models.load_model(path)
    assert model.predict(np.ones((1, 2)), verbose=0).shape == (1, 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_configs_that_name_code(good, trap, tmp_path, place, attack):
    config = json.loads(good["config.json"])
    PLACES[place](config["config"], _attacks(trap)[attack])
    path = _write(tmp_path / "model.keras", {**good, "config.json": json.dumps(config)})
    trained.model_file(path.parent)
    with pytest.raises((ValueError, TypeError, AttributeError)):
        # Where the file is taken, its model must be of no use to whoever made it.
        keras.models.load_model(path)(np.ones((1, 2), "float32"))
    assert not trap.exists()
    with pytest.raises((ValueError, TypeError)):
        keras.saving.deserialize_keras_object(_attacks(trap)["a lambda"])


def test_the_attack_by_a_lambda_works_where_safe_mode_is_off(good, tmp_path):
    """Else the tests here would show nothing."""
    mark = tmp_path / "sprung"
    config = json.loads(good["config.json"])
    config["config"]["layers"][2] = _attacks(mark)["a Lambda layer"]
    path = _write(tmp_path / "model.keras", {**good, "config.json": json.dumps(config)})
    with contextlib.suppress(ValueError):  # The weights are of another model.
        keras.models.load_model(path, safe_mode=False)
    assert mark.exists()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("deserialize", [solvers.deserialize, gradients.deserialize])
def test_solvers_and_gradients_are_known_classes_only(trap, deserialize, attack):
    for config in (_attacks(trap)[attack], {"config": {}, "registered_name": "tfnode>ODEBlock"}):
        with pytest.raises(ValueError, match="Received"):
            deserialize(config)
    with pytest.raises(ValueError, match="Received"):
        gradients.Adjoint(solver=_attacks(trap)[attack])


def test_a_solver_that_a_user_registers_is_known():
    @keras.saving.register_keras_serializable("tfnode_tests")
    class Mine(solvers.RK4):
        pass

    copy = solvers.deserialize(solvers.serialize(Mine(num_steps=3)))
    assert type(copy) is Mine
    assert copy.num_steps == 3


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"registered_name": None, "config": {}},
        {"registered_name": ["tfnode>RK4"], "config": {}},
        {"registered_name": "tfnode>RK4", "config": None},
        {"registered_name": "tfnode>RK4", "config": {"steps": 3}},
        {"registered_name": "tfnode>Adjoint", "config": {}},
    ],
)
def test_configs_of_no_solver(config):
    with pytest.raises(ValueError, match="Received"):
        solvers.get(config)


@pytest.mark.parametrize("make", [DenseDynamics, ConvDynamics])
def test_layers_from_hostile_configs(trap, make):
    for attack in _attacks(trap).values():
        layer = make(3)
        config = {**layer.get_config(), "activation": attack, "norm": attack}
        with pytest.raises((ValueError, TypeError)):
            make.from_config(config)


# --- The archive ----------------------------------------------------------------------

PATHS = ["../outside", "{folder}/outside", "assets/../../outside", "..\\outside"]


@pytest.mark.parametrize("name", PATHS)
def test_members_that_lead_out_write_nothing(good, tmp_path, name):
    name = name.format(folder=tmp_path)
    (tmp_path / "in").mkdir()
    path = _write(tmp_path / "in" / "model.keras", {**good, name: b"written"})
    with contextlib.suppress(errors.RunError):
        trained.load(trained.model_file(tmp_path / "in"))
    assert list(tmp_path.rglob("*")) == [tmp_path / "in", path]


def test_members_that_are_missing(good, tmp_path):
    for name in good:
        _write(tmp_path / "model.keras", {n: c for n, c in good.items() if n != name})
        with pytest.raises(errors.RunError, match="Expected.*Received"):
            trained.model_file(tmp_path)


def test_what_is_no_archive(tmp_path):
    path = tmp_path / "model.keras"
    for content in (b"", b"PK\3\4", b"\x80\x04\x95"):
        path.write_bytes(content)
        with pytest.raises(errors.RunError, match="Received"):
            trained.model_file(path.parent)


def test_weights_made_of_pickles(good, trap, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    array = np.empty(1, object)
    array[0] = Evil()
    buffer = io.BytesIO()
    np.savez(buffer, x=array)
    members = {n: c for n, c in good.items() if n != "model.weights.h5"}
    path = _write(tmp_path / "model.keras", {**members, "model.weights.npz": buffer.getvalue()})
    with pytest.raises(errors.RunError):
        trained.model_file(path.parent)
    with pytest.raises((ValueError, KeyError)):
        keras.models.load_model(path)


def test_weights_that_lie_elsewhere(good, tmp_path):
    """A link in the weights' file would read another file of this machine."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones(3)
    buffer = io.BytesIO(good["model.weights.h5"])
    with h5py.File(buffer, "a") as file:
        names = []
        file.visit(lambda name: names.append(name))
        name = next(n for n in names if isinstance(file[n], h5py.Dataset))
        del file[name]
        file[name] = h5py.ExternalLink(str(secret), "x")
    path = _write(tmp_path / "model.keras", {**good, "model.weights.h5": buffer.getvalue()})
    with pytest.raises(ValueError):
        keras.models.load_model(path)


def test_nothing_of_ours_unpickles():
    """The modules that would are imported nowhere, and safe mode is left nowhere."""
    root = pathlib.Path(tfnode.__file__).parent
    for path in [*root.rglob("*.py"), root.parent / "train.py"]:
        text = path.read_text()
        for word in ("pickle.", "import pickle", "marshal", "safe_mode=False", "allow_pickle=True"):
            assert word not in text, path
