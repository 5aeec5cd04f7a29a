"""What earlier versions saved: `tests/saved/make.py` has made it, and says what it is."""

import json
import pathlib
import shutil
import zipfile

import command
import keras
import numpy as np
import pytest

import tfnode
from tfnode.runs import report

SAVED = pathlib.Path(__file__).parent / "saved"
# On another processor adaptive steps turn rounding into errors of the size of the tolerance: an
# input that differs by 1e-7 moves the prediction by 1e-3.
LIMITS = {"neural_cde_linear": 2e-3}
MODELS = sorted(path.stem for path in SAVED.glob("*.keras"))


def _predicted(name):
    """Return what a model predicts now, and what it did when it was saved."""
    with np.load(SAVED / f"{name}.npz") as file:
        x, expected = file["x"], file["y"]
    model = keras.models.load_model(SAVED / f"{name}.keras")
    model.jit_compile = False
    return model.predict(x, verbose=0), expected


@pytest.fixture(scope="module")
def same_arithmetic():
    """Whether Keras's own layers give the saved bits, with this processor and TensorFlow."""
    return np.array_equal(*_predicted("arithmetic"))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.few(20)
def test_predictions_are_those_of_old(name, same_arithmetic):
    found, expected = _predicted(name)
    assert found.dtype == expected.dtype
    if same_arithmetic:
        np.testing.assert_array_equal(found, expected)
    limit = LIMITS.get(name, 1e-5)
    np.testing.assert_allclose(found, expected, rtol=limit, atol=limit / 10)


def test_every_kind_is_there():
    """A new layer or regulariser needs a file: `python tests/saved/make.py NAME`."""
    text = "".join(
        zipfile.ZipFile(SAVED / f"{name}.keras").read("config.json").decode() for name in MODELS
    )
    kinds = {*tfnode.layers.__all__, *tfnode.models.__all__, "Adjoint", "Checkpoint", "Backprop"}
    kinds |= {"Euler", "Midpoint", "Heun", "RK4", "RK38", "Heun21", "Bosh3", "Dopri5", "Tsit5"}
    kinds |= {"Dopri8", "BDF", "KineticEnergy", "JacobianFrobenius"}
    classes = {kind for kind in kinds if kind[0].isupper()}
    missing = {name for name in classes if f'"tfnode>{name}"' not in text}
    assert not missing


def test_a_run_is_reported(tmp_path):
    report.write_report([SAVED / "run"], tmp_path)
    (row,) = json.loads((tmp_path / "table.json").read_text())["runs"]
    assert (row["name"], row["epochs"], row["parameters"]) == ("ode", 1, 280)


def test_a_run_is_resumed(tmp_path):
    run = shutil.copytree(SAVED / "run", tmp_path / "run")
    before = (run / "history.csv").read_text()
    status, messages, _ = command.run(
        [f"--log_dir={run}", "--resume", "--epochs=2", "--config.jit_compile=false"], main=True
    )
    assert status == 0, messages
    after = (run / "history.csv").read_text()
    assert after.startswith(before) and len(after.splitlines()) == 3
