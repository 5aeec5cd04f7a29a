"""`reproduce.vector_field`: its truth is true, and its errors are those of what was learned."""

import numpy as np
import pytest

from tfnode.reproduce import vector_field
from tfnode.runs import files


def test_the_linear_solution_is_the_closed_form():
    times = np.linspace(0.0, 10.0, 21)
    spiral = 2.0 * np.stack([np.cos(2 * times), np.sin(2 * times)], axis=1)
    expected = np.exp(-0.1 * times)[:, None] * spiral
    np.testing.assert_allclose(vector_field.trajectory(1, times), expected, atol=1e-8)


def test_the_cubic_solution_has_its_derivative():
    times = np.linspace(0.0, 1.0, 2001)
    states = vector_field.trajectory(3, times)
    slopes = np.gradient(states, times, axis=0)[1:-1]
    np.testing.assert_allclose(slopes, vector_field.true_field(3)(states)[1:-1], atol=1e-3)


def test_errors():
    truth = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=1)
    exact = vector_field.true_field(1)
    wrong = vector_field.MATRIX + np.array([[0.0, 0.0], [-0.25, 0.0]])
    fitted = vector_field.Fit(4, wrong, truth + 0.5, lambda y: 1.5 * exact(y))
    errors = vector_field._errors(fitted, 1, truth, 4)
    assert errors["field"] == pytest.approx(0.5)
    assert errors["rmse"] == errors["rmse_beyond"] == pytest.approx(0.5)
    assert errors["matrix_error"] == 0.25
    perfect = vector_field._errors(vector_field.Fit(4, None, truth, exact), 1, truth, 4)
    assert perfect == {"field": 0.0, "rmse": 0.0, "rmse_beyond": 0.0}


@pytest.mark.slow
def test_quick(tmp_path):
    assert vector_field.main(["--quick", "--seeds=1", f"--out={tmp_path}"]) == 0
    names = {"cubic.png", "linear.png", "results.json", "table.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    results = files.read_json(tmp_path / "results.json")["results"]
    assert len(results["cubic, perceptron"]) == 1
