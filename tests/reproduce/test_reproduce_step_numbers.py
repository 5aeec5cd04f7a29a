"""`reproduce.step_numbers`: the weights of a run with other numbers of steps."""

import keras
import numpy as np
import pytest

from tfnode import data, models
from tfnode.configs import ode_tuned
from tfnode.data.dataset import MEAN, STANDARD_DEVIATION
from tfnode.lab import runner
from tfnode.lab.build import Pixels, compiled_model
from tfnode.reproduce import step_numbers
from tfnode.runs.contents import MODEL


@pytest.fixture
def digits():
    found = data.load("digits")
    return found._replace(x_test=found.x_test[:40], y_test=found.y_test[:40])


def test_scores_by_the_number_of_steps(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(step_numbers, "TESTED", (1, 3))
    settings = ode_tuned.get_config()
    settings.precision, settings.dataset, settings.model.num_steps = "float32", "digits", 1
    settings.model.filters = 3
    model = compiled_model(settings, Pixels(*digits))
    for variable in model.trainable_variables:  # The fields move the state, and unevenly.
        variable.assign(variable * 1.5 + 0.1)
    model.save(tmp_path / MODEL)
    scores = step_numbers.evaluated(runner.Experiment(tmp_path, settings), digits)

    images = (digits.x_test / 255.0 - MEAN) / STANDARD_DEVIATION
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for steps, score in zip((1, 3), scores, strict=True):
        plain = models.ode_tuned(filters=3, renorm=False, num_steps=steps)
        plain.set_weights(model.get_weights())
        logits = plain(images.astype(np.float32))
        assert score["loss"] == pytest.approx(float(loss(digits.y_test, logits)), rel=1e-4)
        right = np.argmax(logits, -1) == digits.y_test
        assert score["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert abs(scores[0]["loss"] - scores[1]["loss"]) > 1e-3


def test_figure():
    values = {
        "1": {"accuracy": [[0.99, *[0.5] * 7], [0.98, *[0.4] * 7]], "loss": []},
        "4": {"accuracy": [[0.9] * 8, [0.8] * 8], "loss": []},
    }
    picture = step_numbers.figure(values, "digits")
    (axis,) = picture.axes
    means = [line.get_ydata() for line in axis.get_lines()]
    np.testing.assert_allclose(means, [[0.985, *[0.45] * 7], [0.85] * 8])
