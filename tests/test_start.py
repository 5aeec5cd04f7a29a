"""The start of a process: commands wait for no TensorFlow, and saved models load."""

import pathlib
import subprocess
import sys
import time

import keras
import pytest
from command import start

import tfnode

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]
TOPICS = [
    path.stem
    for path in sorted((ROOT / "tfnode" / "reproduce").glob("*.py"))
    if "__main__" in path.read_text() and path.stem != "command"
]
COMMANDS = [
    *("report", "study", "tune", "export", "classify"),
    *(f"reproduce.{topic}" for topic in TOPICS),
]


# The topics begin alike.
SLOW = [f"reproduce.{topic}" for topic in TOPICS[1:]]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] if command[-1][7:] in SLOW else [])
        for command in (["train.py"], ["-m", "tfnode"], *(["-m", f"tfnode.{c}"] for c in COMMANDS))
    ],
    ids=lambda c: c[-1],
)
def test_help_waits_for_no_tensorflow(command):
    begun = time.monotonic()
    status, message, imported, printed = start(*command, "--help")
    assert status == 0, message
    assert "usage: " in printed
    assert not imported & {"tensorflow", "keras"}
    assert time.monotonic() - begun < 5.0  # It is about one second on an idle machine.


REFUSED = {
    # Arguments, the status, and what the message must name.
    "study nowhere --out=no": (2, "Expected the path of a config file. Received: nowhere"),
    "tune nowhere --out=no": (2, "Expected the path of a config file. Received: nowhere"),
    "export none --format=onnx": (1, "export: Expected a run directory. Received: none"),
    "export none --format=pickle": (2, "tflite"),
    "classify none image.png": (1, "classify: Expected a run directory. Received: none"),
    "classify none": (2, "IMAGE"),
    "reproduce.densities --unknown": (2, "unrecognized arguments: --unknown"),
}


@pytest.mark.parametrize("command", REFUSED)
def test_refused_before_tensorflow(tmp_path, command):
    module, *arguments = command.split()
    status, message, imported, _ = start("-m", f"tfnode.{module}", *arguments, cwd=tmp_path)
    assert (status, REFUSED[command][1] in message) == (REFUSED[command][0], True), message
    assert "Traceback" not in message
    assert "tfnode" in imported
    assert not imported & {"tensorflow", "keras"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    dynamics = tfnode.layers.DenseDynamics([3], "tanh")
    keras.Sequential([keras.Input((2,)), tfnode.ODEBlock(dynamics)]).save(path)
    return path


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import tfnode, keras", marks=pytest.mark.slow),
        pytest.param("import keras, tfnode", marks=pytest.mark.slow),
        # Parts of the library import one another, and Keras, in many orders.
        pytest.param("from tfnode.solvers import RK4; import keras", marks=pytest.mark.slow),
        "from tfnode.layers.ode_block import ODEBlock; import keras",
        pytest.param("import tfnode; tfnode.odeint; import keras", marks=pytest.mark.slow),
        pytest.param("from tfnode.callbacks import Backup; import keras", marks=pytest.mark.slow),
    ],
)
def test_saved_models_load(saved, imports):
    """And no module, so no class, exists twice."""
    code = (
        f"{imports}; import sys;"
        "m = [x for n, x in sys.modules.items() if n[:6] == 'tfnode'];"
        "print(len({x.__spec__.origin for x in m}) == len(m));"
        f"print(type(keras.models.load_model({str(saved)!r}).layers[0]).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "ODEBlock"], done.stderr
