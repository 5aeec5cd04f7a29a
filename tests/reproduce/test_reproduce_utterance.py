"""`reproduce.utterance`: the same states as the model has at the points, and those between."""

import numpy as np
import pytest

from tfnode import models
from tfnode.reproduce import utterance
from tfnode.runs import files

pytestmark = pytest.mark.few(2)

TIMES = np.float32([0.0, 0.5, 0.75, 1.5])
VALUES = np.float32([[1, 2], [np.nan, np.nan], [3, -1], [0, 0]])
SMALL = {"units": 3, "hidden_units": 4}
MODELS = {
    "neural_cde": {**SMALL, "path": "integral"},
    "neural_cde linear": {**SMALL, "path": "linear"},
    "ode_rnn": SMALL,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_reading(name):
    function = getattr(models, name.split()[0])
    model = function((4, 2), 2, **MODELS[name])
    found = utterance.read(model, VALUES, TIMES)
    assert len(found.times) == len(found.states) == len(found.path) == 3 * utterance.BETWEEN + 1
    at = slice(None, None, utterance.BETWEEN)
    np.testing.assert_allclose(found.times[at], TIMES)
    np.testing.assert_allclose(found.path[at][[0, 2, 3]], VALUES[[0, 2, 3]], atol=1e-6)
    np.testing.assert_allclose(found.path[at][1], [1 + 2 * 0.5 / 0.75, 2 - 3 * 0.5 / 0.75], 1e-5)
    # The times between are as many steps of the solver.
    fine = function((4, 2), 2, **MODELS[name], num_steps=utterance.BETWEEN)
    fine.set_weights(model.get_weights())
    logits = np.exp(fine((VALUES[np.newaxis], TIMES[np.newaxis]))[0])
    np.testing.assert_allclose(found.probabilities[-1], logits / logits.sum(), rtol=1e-4)
    np.testing.assert_allclose(found.probabilities.sum(1), 1.0, rtol=1e-5)


def test_from_when_on_it_is_right():
    reading = utterance.Reading(np.arange(4.0), *[np.zeros((4, 2))] * 3)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    reading = reading._replace(probabilities=probabilities)
    assert utterance.first_right(reading, 0) == 2.0
    assert utterance.first_right(reading, 1) is None
    always = reading._replace(probabilities=probabilities[2:])
    assert utterance.first_right(always, 0) == 0.0


def test_missing_values_in_the_scale_of_the_others():
    every = np.array([[1.0, 5.0], [2.0, 6.0], [4.0, 9.0]])
    values = 3.0 * every - 1.0
    values[1] = np.nan
    np.testing.assert_allclose(utterance.as_scaled(every, values), 3.0 * every - 1.0)


def test_no_such_utterance(tmp_path, capsys):
    assert utterance.main(["--utterance=370", f"--out={tmp_path}"]) == 1
    assert "--utterance must be below 370. Received: 370" in capsys.readouterr().err


@pytest.mark.slow
def test_quick(tmp_path):
    assert utterance.main(["--quick", f"--out={tmp_path}"]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"runs", "results.json", "table.md", "utterance.png"}
    found = files.read_json(tmp_path / "results.json")["results"]
    assert found["observed"].count(True) == len(found["times"]) - int(0.7 * len(found["times"]))
    assert {*found["models"]} == {"neural_cde", "ode_rnn"}
