"""Methods: found by their files alone, with fixed steps where they also control their error."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from problems import MODES, ONE_MODE, PROBLEMS

import tfnode
from tfnode import solvers

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]


def solver(name, **kwargs):
    return type(solvers.get(name))(**kwargs)


@pytest.mark.parametrize("name", solvers.ADAPTIVE)
def test_order_with_fixed_steps(name):
    problem = PROBLEMS["gaussian"]
    order = solvers.get(name).tableau.order
    # Enough for the slope, with an error above the rounding.
    counts = [16, 24, 32] if order < 5 else [6, 8, 12] if order < 8 else [3, 4, 5]
    errors = []
    for steps in counts:
        run = tf.function(
            lambda n=steps: tfnode.odeint(
                problem.func, problem.y0, [0.2, 1.5], solver=solver(name, num_steps=n)
            )[-1]
        )
        errors.append(np.abs(run() - problem.solution(1.5)).max())
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order - 0.4 < slope < order + 1.2


@pytest.mark.parametrize("mode", ONE_MODE)
def test_fixed_steps_of_an_embedded_method(mode):
    """The last stage, which is the first of the next step, is not evaluated."""
    problem = PROBLEMS["linear"]

    @MODES[mode]
    def run():
        found = []
        for gradient in ("checkpoint", "backprop"):
            y0, times = problem.y0, tf.constant([0.0, 0.4, 1.0], tf.float64)
            with tf.GradientTape() as tape:
                tape.watch([y0, times])
                ys, stats = tfnode.odeint(
                    problem.func,
                    y0,
                    times,
                    solver=solvers.Dopri5(num_steps=4),
                    gradient=gradient,
                    return_stats=True,
                )
                loss = tf.reduce_sum(ys**2)
            found.append((ys, tape.gradient(loss, [y0, times])))
        return found, stats

    ((ys, one), (_, other)), stats = run()
    np.testing.assert_allclose(ys[-1], problem.solution(1.0), rtol=1e-6)
    for a, b in zip(one, other):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert [int(x) for x in stats] == [2 * 4 * 6, 8, 0]


def test_heun_and_heun21_are_one_method():
    assert solvers.Heun.tableau is solvers.Heun21.tableau
    ys = [
        tfnode.odeint(lambda t, y: -t * y, tf.ones([2], tf.float64), [0.0, 1.0, 3.0], solver=s)
        for s in (solvers.Heun(step_size=0.3), solvers.Heun21(step_size=0.3))
    ]
    np.testing.assert_array_equal(*ys)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_steps": 2, "rtol": 1e-5},
        {"num_steps": 2, "max_steps": 5},
        {"step_size": 0.1, "first_step": 0.1},
        {"step_size": 0.1, "num_steps": 2},
        {"num_steps": 0},
    ],
)
def test_fixed_steps_control_no_error(kwargs):
    with pytest.raises(ValueError, match=r"num_steps.*Received"):
        solvers.Dopri5(**kwargs)


def test_configs():
    fixed = solvers.Dopri5(num_steps=3)
    assert not fixed.adaptive and fixed.tolerances is None
    copy = solvers.deserialize(solvers.serialize(fixed))
    assert copy.get_config() == fixed.get_config() == {"num_steps": 3, "step_size": None}
    old = {"rtol": 1e-3, "atol": 1e-6, "first_step": None, "max_steps": 4096}
    assert solvers.Dopri5().get_config() == old
    copy = solvers.deserialize(
        {
            "module": "tfnode.solvers.adaptive_methods",  # Where the class was before.
            "class_name": "Dopri5",
            "config": old,
            "registered_name": "tfnode>Dopri5",
        }
    )
    assert copy.adaptive and copy.tolerances == (1e-3, 1e-6)
    # Values that are the defaults count as not given.
    assert solvers.Dopri5(**old, num_steps=3).num_steps == 3


def test_fixed_steps_have_no_events():
    with pytest.raises(ValueError, match="'dopri5'.*Received"):
        tfnode.odeint_event(
            lambda t, y: -y, tf.ones([1]), 0.0, lambda t, y: y, solver=solvers.Dopri5(num_steps=2)
        )


def test_each_method_is_known_everywhere():
    names = {*solvers.FIXED_STEP, *solvers.ADAPTIVE, "bdf"}
    assert names == set(solvers._CLASSES) and len(names) >= 11
    spec = importlib.util.spec_from_file_location("methods", ROOT / "docs" / "methods.py")
    methods = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(methods)
    table = methods.on_page_markdown((ROOT / "docs" / "solvers.md").read_text())
    assert "| `Dopri5` | 5(4) | 7 | 6 | adaptive or fixed | a polynomial of degree 4 |" in table
    for name in names:
        kind = type(solvers.get(name))
        assert kind.__name__ in solvers.__all__
        assert "Reference: " in kind.__doc__
        assert f"| `{kind.__name__}` | " in table
    with pytest.raises(ValueError) as error:
        solvers.get("nothing")
    assert all(repr(name) in str(error.value) for name in names)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import tfnode.solvers", ("tensorflow", "keras", "tensorflow_probability")),
        pytest.param(
            *("import keras, tfnode; tfnode.odeint", ("tensorflow_probability",)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_names_wait_for_no_import(code, absent):
    code = f"import sys; {code}; print([x for x in {absent} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
