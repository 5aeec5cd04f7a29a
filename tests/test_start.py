"""The start of a process: commands wait for no TensorFlow, and saved models load."""

import pathlib
import subprocess
import sys
import time

import keras
import pytest

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
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"tensorflow", "keras"}
    assert time.monotonic() - begun < 5.0  # It is about one second on an idle machine.


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
