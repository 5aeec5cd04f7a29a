"""The solvers on the DETEST bank, against references by SciPy.

Errors are global ones, at the end of the interval and at three times inside, in units of the
tolerance: the largest of `|y - reference| / (tolerance * (1 + |reference|))`, with `rtol` and
`atol` both equal to the tolerance. That is what a solver controls in each step. At most 100 of
these units are allowed, except where `EXCEPTIONS` says otherwise.
"""

import functools
import itertools

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from detest import GRAVITY, MASSES, PROBLEMS, SUN
from scipy.integrate import solve_ivp

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

SOLVERS = {
    "bosh3": (1e-3, 1e-6),
    "dopri5": (1e-3, 1e-6, 1e-9),
    "tsit5": (1e-3, 1e-6, 1e-9),
    "dopri8": (1e-3, 1e-6, 1e-9),
}
# Not at the points of the orbits that are nearest to the centre, where all is fastest.
TIMES = np.array([0.0, 3.0, 9.5, 16.0, 20.0])

ALLOWED = 100.0
# Problems that magnify the error of a step, so that a solver of ours is beyond what is allowed, by
# how far SciPy is off there, in the same units: the worst of its RK23, and of its RK45 at a quarter
# to four times the tolerance, since errors at one tolerance are a matter of luck. Three times that
# is allowed. B5 at 1e-3 is the one where SciPy's are within 100. B1 and E2 are cycles that pass
# slow places, where a small difference becomes a shift in time, and steep ones, where that shift
# becomes a large difference. The others oscillate or revolve: an error in the period is a shift
# that grows. At 1e-3 the places on the orbits of class D are anybody's guess, so little is claimed
# there. `dopri8` needs no exceptions.
EXCEPTIONS = {
    1e-3: {
        "B1": 230.0,
        "B5": 68.0,
        "C5": 242.0,
        "D1": 3210.0,
        "D2": 1350.0,
        "D3": 668.0,
        "D4": 336.0,
        "D5": 346.0,
        "E2": 153.0,
        "E3": 158.0,
    },
    1e-6: {
        "B1": 278.0,
        "C5": 191.0,
        "D1": 1410.0,
        "D2": 949.0,
        "D3": 482.0,
        "D4": 150.0,
        "D5": 324.0,
    },
    1e-9: {"D1": 209.0, "D2": 265.0, "D3": 189.0, "D4": 136.0, "D5": 224.0},
}

# What Enright and Pryce (1987) give for the first components at the end.
END_VALUES = {
    "A1": [2.061153353012535e-09],
    "A2": [2.182178902359887e-01],
    "A3": [2.491650271850414],
    "A4": [17.73016648131483],
    "A5": [-0.7887826688964196],
    "B1": [0.6761876008576667, 0.1860816099640036],
    "B2": [1.000000001030576, 1.0, 0.9999999989694235],
    "B3": [2.061153488557776e-09, 5.257228022048349e-02, 0.9474277177183630],
    "B4": [0.9826950928005993, 2.198447081694832, 0.9129452507276399],
    "B5": [-0.9396570798729192, -0.3421177754000779, 0.7414126596199957],
    "C1": [2.061153622240064e-09, 4.122307244619555e-08, 4.122307244716968e-07],
    "C2": [2.061153577984930e-09, 2.061153573736588e-09, 2.061153569488245e-09],
    "C3": [2.948119211022058e-03, 5.635380154844266e-03, 7.829072515926013e-03],
    "C4": [3.124111453721466e-03, 6.015416842150318e-03, 8.470021834842650e-03],
    "C5": [
        *[-4.792730224323733, -2.420550725448973, -9.212509306014886e-01],
        *[-4.217310404035213, 7.356202947498970, 3.223785985421212],
        *[4.035559443262270, 17.19865528670555, 7.478910794233703],
        *[-29.98759326324844, -4.107310937550929, -9.277008321754407e-01],
        *[-24.42125302518482, 23.81459045746554, 14.92096306951359],
    ],
    "D1": [2.198835352008397e-01, 9.427076846341813e-01, -9.787659841058176e-01],
    "D2": [-1.777027357140412e-01, 9.467784719905892e-01, -1.030294163192969],
    "D3": [-5.780432953035361e-01, 8.633840009194193e-01, -9.595083730380727e-01],
    "D4": [-9.538990293416394e-01, 6.907409024219432e-01, -8.212674270877433e-01],
    "D5": [-1.295266250987574, 4.003938963792321e-01, -6.775390924707566e-01],
    "E1": [1.456723600728308e-01, -9.883500195574063e-02],
    "E2": [2.008149762174948, -4.250887527320057e-02],
    "E3": [-1.004178858647128e-01, 2.411400132095954e-01],
    "E4": [33.95091444646555, 2.767822659672869e-01],
    "E5": [14.11797390542629, 2.4],
}


def kepler(eccentricity, t):
    """The place on the orbit of classes D, by Kepler's equation."""
    angle = t
    for _ in range(100):
        slope = 1.0 - eccentricity * np.cos(angle)
        angle = angle - (angle - eccentricity * np.sin(angle) - t) / slope
    return [np.cos(angle) - eccentricity, np.sqrt(1.0 - eccentricity**2) * np.sin(angle)]


CLOSED_FORMS = {
    "A1": lambda t: [np.exp(-t)],
    "A2": lambda t: [1.0 / np.sqrt(t + 1.0)],
    "A3": lambda t: [np.exp(np.sin(t))],
    "A4": lambda t: [20.0 / (1.0 + 19.0 * np.exp(-t / 4.0))],
    "B2": lambda t: [1.0 + 0.5 * np.exp(-t) + 0.5 * np.exp(-3.0 * t)],
    "B4": lambda t: [(2.0 + np.cos(t)) * np.cos(t), (2.0 + np.cos(t)) * np.sin(t), np.sin(t)],
    "B5": lambda t: scipy.special.ellipj(t, 0.51)[:3],
    "C1": lambda t: [np.exp(-t), t * np.exp(-t), t**2 * np.exp(-t) / 2.0],
    "C2": lambda t: [np.exp(-t) * (1.0 - np.exp(-t)) ** k for k in range(9)],
    "D1": functools.partial(kepler, 0.1),
    "D2": functools.partial(kepler, 0.3),
    "D3": functools.partial(kepler, 0.5),
    "D4": functools.partial(kepler, 0.7),
    "D5": functools.partial(kepler, 0.9),
    "E1": lambda t: [scipy.special.jv(0.5, t + 1.0), scipy.special.jvp(0.5, t + 1.0)],
    "E4": lambda t: [30.0 + 2.5 * np.log(np.cosh(np.sqrt(0.0128) * t))],
    "E5": lambda t: [12.5 * np.log(25.0 / (25.0 - t)) - 0.5 * t + 0.01 * t**2],
}


@functools.cache
def reference(key):
    """The states at `TIMES`, each time landed on."""
    problem = PROBLEMS[key]
    states = [problem.y0]
    for interval in itertools.pairwise(TIMES):
        # The tightest tolerance that SciPy accepts.
        found = solve_ivp(
            problem.field(np), interval, states[-1], "DOP853", rtol=2.3e-14, atol=1e-15
        )
        states.append(found.y[:, -1])
    return np.stack(states)


def units(states, key, tolerance):
    expected = reference(key)
    return np.max(np.abs(states - expected) / (tolerance * (1.0 + np.abs(expected))))


@functools.cache
def solutions(name, tolerance):
    """For each problem the states at `TIMES`; one trace for all problems."""
    method = type(solvers.get(name))(rtol=tolerance, atol=tolerance)
    scalar, index = tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.int32)
    vector = tf.TensorSpec([None], tf.float64)

    # Inlined into every stage it would take as long to optimize as to run.
    attributes = {"_noinline": True}

    @tf.function(input_signature=[scalar, vector, index], experimental_attributes=attributes)
    def field(t, y, i):
        return tf.switch_case(i, [functools.partial(p.field(tf), t, y) for p in PROBLEMS.values()])

    @tf.function(input_signature=[vector, index])
    def solve(y0, i):
        return tfnode.odeint(lambda t, y: field(t, y, i), y0, TIMES, solver=method)

    return {key: solve(problem.y0, i).numpy() for i, (key, problem) in enumerate(PROBLEMS.items())}


@pytest.mark.parametrize("key", PROBLEMS)
@pytest.mark.parametrize(
    ("name", "tolerance"), [(name, tolerance) for name in SOLVERS for tolerance in SOLVERS[name]]
)
def test_global_error(name, tolerance, key):
    allowed = ALLOWED
    if name != "dopri8" and key in EXCEPTIONS[tolerance]:
        allowed = 3.0 * EXCEPTIONS[tolerance][key]
    assert units(solutions(name, tolerance)[key], key, tolerance) <= allowed


@pytest.mark.parametrize("tolerance", EXCEPTIONS)
def test_exceptions_are_what_scipy_does(tolerance):
    runs = [("RK45", factor * tolerance) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
    if tolerance > 1e-9:
        runs.append(("RK23", tolerance))
    for key, expected in EXCEPTIONS[tolerance].items():
        problem, worst = PROBLEMS[key], 0.0
        for method, tol in runs:
            found = solve_ivp(
                problem.field(np), (0.0, 20.0), problem.y0, method, TIMES, rtol=tol, atol=tol
            )
            if found.success:
                worst = max(worst, units(found.y.T, key, tol))
        assert worst == pytest.approx(expected, rel=0.05)
        assert worst > ALLOWED or (key, tolerance) == ("B5", 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", EXCEPTIONS)
def test_exceptions_are_needed(tolerance):
    names = [name for name in SOLVERS if tolerance in SOLVERS[name]]
    for key in EXCEPTIONS[tolerance]:
        worst = max(units(solutions(name, tolerance)[key], key, tolerance) for name in names)
        assert worst > ALLOWED, key


def test_bank_is_complete():
    assert list(PROBLEMS) == [c + n for c in "ABCDE" for n in "12345"]
    assert [len(p.y0) for p in PROBLEMS.values()] == [
        *[1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 10, 10, 10, 51, 30, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2]
    ]


@pytest.mark.parametrize("key", PROBLEMS)
def test_published_end_values(key):
    expected = END_VALUES[key]
    np.testing.assert_allclose(
        reference(key)[-1, : len(expected)], expected, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("key", CLOSED_FORMS)
def test_closed_forms(key):
    for t, state in zip(TIMES, reference(key)):
        expected = CLOSED_FORMS[key](t)
        np.testing.assert_allclose(state[: len(expected)], expected, atol=1e-11)


@pytest.mark.parametrize("key", PROBLEMS)
def test_same_field_by_tensorflow(key):
    problem = PROBLEMS[key]
    y = problem.y0 + np.random.default_rng(0).uniform(0.1, 0.2, problem.y0.shape)
    expected = problem.field(np)(0.7, y)
    actual = problem.field(tf)(tf.constant(0.7, tf.float64), tf.constant(y))
    np.testing.assert_allclose(actual, expected, rtol=1e-14, atol=1e-14)


def test_energy_of_the_planets():
    """In coordinates of the centre of mass, C5 conserves the energy."""

    def energy(state):
        x, v = np.reshape(state, (2, 5, 3))
        m = np.append(MASSES, SUN)
        x, v = np.vstack([x, np.zeros(3)]), np.vstack([v, np.zeros(3)])
        v = v - m @ v / m.sum()
        distances = np.linalg.norm(x[:, None] - x, axis=-1) + np.diag(np.full(6, np.inf))
        return 0.5 * m @ (v * v).sum(1) - 0.5 * GRAVITY * (m[:, None] * m / distances).sum()

    values = [energy(state) for state in reference("C5")]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
