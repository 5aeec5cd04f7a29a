"""`reproduce.hare_lynx`: the equations, the baselines and the errors; the fit in the slow test."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tfnode.integrate import odeint
from tfnode.reproduce import hare_lynx
from tfnode.runs import files

RATES = np.array([6.0, 5.0, 7.0, 6.5])


def test_the_equations_are_those_of_lotka_and_volterra():
    """In logarithms; against SciPy on the animals themselves."""
    equations = hare_lynx.Equations(network=True)
    equations.begin(0, np.array([0.3, -0.2]))  # The network begins at zero.
    equations.rates.assign(np.log(RATES))
    times = np.linspace(0.0, 1.5, 7, dtype=np.float32)
    found = odeint(equations, equations.start.value[None], times, rtol=1e-6, atol=1e-6)
    a, b, c, d = RATES

    def animals(t, y):
        return [y[0] * (a - b * y[1]), y[1] * (d * y[0] - c)]

    start = np.exp(equations.start.numpy())
    expected = solve_ivp(animals, (0.0, 1.5), start, t_eval=times, rtol=1e-10, atol=1e-10).y.T
    np.testing.assert_allclose(np.exp(found[:, 0]), expected, rtol=1e-4)


def test_first_parameters_depend_on_the_seed_alone():
    one, other = (hare_lynx.Equations(network=True) for _ in range(2))
    found = []
    for equations, seed in ((one, 3), (other, 3), (other, 4)):
        equations.begin(seed, np.zeros(2))
        found.append([variable.numpy() for variable in equations.variables])
    for a, b in zip(found[0], found[1]):
        np.testing.assert_array_equal(a, b)
    assert (found[1][0] != found[2][0]).all() and (found[1][2] != found[2][2]).any()
    assert sum(value.size for value in found[0]) == 88
    assert len(hare_lynx.Equations(network=False).variables) == 2


def test_baselines():
    logs = np.stack([np.arange(35.0), -np.arange(35.0)], axis=1)
    found = hare_lynx.baselines(logs, 20)
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(found, (15, 2))
    assert (found["persistence"] == [19.0, -19.0]).all()
    assert (found["constant"] == [9.5, -9.5]).all()
    np.testing.assert_array_equal(found["decade"][:, 0], [*range(10, 20), *range(10, 15)])


def test_errors():
    truth = np.zeros((4, 2))
    found = hare_lynx.errors(np.full((4, 2), [3.0, 4.0]), truth)
    assert found == {"rmse": pytest.approx(np.sqrt(12.5)), "hares": 3.0, "lynxes": 4.0}


def test_the_figure():
    years, logs = np.arange(1845, 1850), np.random.default_rng(0).normal(size=(5, 2))
    fine = np.repeat(logs, hare_lynx.FINE, axis=0)[: 4 * hare_lynx.FINE + 1]
    one = hare_lynx.Trajectory(6, fine, lambda y: y[:, ::-1] + 0.1, [1.0] * 4)
    np.testing.assert_array_equal(one.states, logs)
    other = one._replace(path=fine + 0.2)
    found = hare_lynx.figure(years, 3, logs, {"a": [one, other], "b": [one, one]}, [0, 1])
    titles = [axis.get_title() for axis in found.axes]
    assert titles == ["", "", "a", "b"]
    data, mean, same = found.axes[0].get_lines()
    np.testing.assert_array_equal(data.get_ydata(), logs[:, 0])
    np.testing.assert_allclose(mean.get_ydata(), logs[:, 0] + 0.1)
    np.testing.assert_allclose(same.get_ydata(), logs[:, 0])


@pytest.mark.parametrize("until", [1863, 1916])
def test_years_without_enough_before_or_behind(until, tmp_path, capsys):
    assert hare_lynx.main([f"--until={until}", f"--out={tmp_path}"]) == 1
    assert f"from 1864 to 1915, with 20 years to forecast behind it. Received: --until={until}" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_it_finds_the_rates_of_a_solution():
    equations = hare_lynx.Equations(network=False)
    equations.begin(0, np.array([0.4, 0.1]))
    equations.rates.assign(np.log(RATES))
    times = np.arange(40, dtype=np.float32) / hare_lynx.PERIOD
    logs = odeint(equations, equations.start.value[None], times).numpy()[:, 0]
    (found,) = hare_lynx.fit(equations, logs, 30, 300, [1])
    np.testing.assert_allclose(found.rates, RATES, rtol=0.02)
    assert hare_lynx.errors(found.states[30:], logs[30:])["rmse"] < 0.02
    # The field is the fitted one, whatever is fitted later.
    before = found.field(logs)
    equations.rates.assign(np.zeros(4))
    np.testing.assert_array_equal(found.field(logs), before)


@pytest.mark.slow
def test_quick(tmp_path):
    assert hare_lynx.main(["--quick", f"--out={tmp_path}"]) == 0
    names = {"hare_lynx.png", "results.json", "table.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    results = files.read_json(tmp_path / "results.json")["results"]
    assert len(results["network"]) == 1
    assert len(results["network"][0]["states"]) == 91
    table = (tmp_path / "table.md").read_text()
    assert f"| the mean | 0 | - | {results['constant']['rmse']:.3f} |" in table
