"""The 25 problems of the DETEST bank, in float64, for any library of arrays.

Each vector field is written once, as `func(xp, t, y)` with the module of the library for `xp`:
NumPy, TensorFlow, `jax.numpy`, or anything else that has `add`, `multiply`, `sqrt`, `sin`,
`cos`, `stack`, `reshape`, `pad` and `einsum` of the same meaning.

Class A has single equations, B small systems, C moderate ones, D orbits of growing
eccentricity, E equations of higher order. All of them run from 0 to 20.

Reference: Hull, Enright, Fellen, Sedgwick, *Comparing numerical methods for ordinary
differential equations* (1972); Enright, Pryce, *Two FORTRAN packages for assessing initial
value methods* (1987).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """`dy/dt = func(xp, t, y)`, `y(times[0]) = y0`."""

    name: str
    func: Callable
    y0: np.ndarray
    times: tuple = (0.0, 20.0)

    def field(self, xp):
        """The vector field as a function of `(t, y)`, by the library `xp`."""
        return functools.partial(self.func, xp)


PROBLEMS = {}


def problem(*y0):
    """Enters the decorated vector field under its name, with that initial state."""

    def enter(func):
        name = func.__name__.upper()
        PROBLEMS[name] = Problem(name, func, np.array(y0, np.float64))
        return func

    return enter


@problem(1.0)
def a1(xp, t, y):
    """The negative exponential."""
    return -y


@problem(1.0)
def a2(xp, t, y):
    """A special case of the Riccati equation."""
    return -0.5 * y * y * y


@problem(1.0)
def a3(xp, t, y):
    """An oscillatory problem."""
    return y * xp.cos(t)


@problem(1.0)
def a4(xp, t, y):
    """A logistic curve."""
    return 0.25 * y * (1.0 - 0.05 * y)


@problem(4.0)
def a5(xp, t, y):
    """A spiral curve."""
    return (y - t) / (y + t)


@problem(1.0, 3.0)
def b1(xp, t, y):
    """The growth of two conflicting populations."""
    u, v = y[0], y[1]
    return xp.stack([2.0 * u * (1.0 - v), -v * (1.0 - u)])


@problem(2.0, 0.0, 1.0)
def b2(xp, t, y):
    """A linear chemical reaction."""
    u, v, w = y[0], y[1], y[2]
    return xp.stack([v - u, u - 2.0 * v + w, v - w])


@problem(1.0, 0.0, 0.0)
def b3(xp, t, y):
    """A nonlinear chemical reaction."""
    u, v = y[0], y[1]
    return xp.stack([-u, u - v * v, v * v])


@problem(3.0, 0.0, 0.0)
def b4(xp, t, y):
    """The integral surface of a torus."""
    u, v, w = y[0], y[1], y[2]
    r = xp.sqrt(u * u + v * v)
    return xp.stack([-v - u * w / r, u - v * w / r, u / r])


@problem(0.0, 1.0, 1.0)
def b5(xp, t, y):
    """Euler's equations of motion for a rigid body without external forces."""
    u, v, w = y[0], y[1], y[2]
    return xp.stack([v * w, -u * w, -0.51 * u * v])


def decay(xp, y, rates):
    """Each component decays into the next; the last is stable."""
    lost = xp.multiply(y[:-1], rates)
    return xp.pad(lost, [[1, 0]]) - xp.pad(lost, [[0, 1]])


@problem(*np.eye(10)[0])
def c1(xp, t, y):
    """A radioactive decay chain."""
    return decay(xp, y, 1.0)


@problem(*np.eye(10)[0])
def c2(xp, t, y):
    """Another radioactive decay chain."""
    return decay(xp, y, np.arange(1.0, 10.0))


def diffusion(xp, y):
    """A parabolic equation, discretized in space: the tridiagonal matrix 1, -2, 1."""
    return xp.pad(y[:-1], [[1, 0]]) - 2.0 * y + xp.pad(y[1:], [[0, 1]])


@problem(*np.eye(10)[0])
def c3(xp, t, y):
    """A parabolic equation on 10 points."""
    return diffusion(xp, y)


@problem(*np.eye(51)[0])
def c4(xp, t, y):
    """A parabolic equation on 51 points."""
    return diffusion(xp, y)


# Jupiter, Saturn, Uranus, Neptune and Pluto in coordinates of the sun: masses in units of its
# mass, lengths in astronomical units, the time in units of 100 days.
GRAVITY = 2.95912208286
SUN = 1.00000597682  # With the inner planets.
MASSES = np.array(
    [9.54786104043e-4, 2.85583733151e-4, 4.37273164546e-5, 5.17759138449e-5, 2.77777777778e-6]
)
POSITIONS = np.array(
    [
        [3.42947415189, 3.35386959711, 1.35494901715],
        [6.64145542550, 5.97156957878, 2.18231499728],
        [11.2630437207, 14.6952576794, 6.27960525067],
        [-30.1552268759, 1.65699966404, 1.43785752721],
        [-21.1238353380, 28.4465098142, 15.3882659679],
    ]
)
VELOCITIES = np.array(
    [
        [-0.557160570446, 0.505696783289, 0.230578543901],
        [-0.415570776342, 0.365682722812, 0.169143213293],
        [-0.325325669158, 0.189706021964, 0.0877265322780],
        [-0.0240476254170, -0.287659532608, -0.117219543175],
        [-0.176860753121, -0.216393453025, -0.0148647893090],
    ]
)


@problem(*POSITIONS.ravel(), *VELOCITIES.ravel())
def c5(xp, t, y):
    """The five body problem: the motion of the outer planets about the sun."""
    x = xp.reshape(y[:15], (5, 3))
    squares = xp.einsum("ki,ki->k", x, x)
    to_sun = -x / xp.reshape(squares * xp.sqrt(squares), (5, 1))
    apart = xp.reshape(x, (1, 5, 3)) - xp.reshape(x, (5, 1, 3))
    # Not 0 on the diagonal, where `apart` is.
    squares = xp.add(xp.einsum("jki,jki->jk", apart, apart), np.eye(5))
    to_others = apart / xp.reshape(squares * xp.sqrt(squares), (5, 5, 1))
    # The sun, which is the origin, is pulled by the planets too.
    pulls = xp.multiply(to_others + to_sun, MASSES[:, np.newaxis])
    acceleration = GRAVITY * (SUN * to_sun + xp.einsum("jki->ji", pulls))
    return xp.reshape(xp.stack([xp.reshape(y[15:], (5, 3)), acceleration]), (30,))


def orbit(xp, y):
    """The motion of a body about another that stays in the origin."""
    u, v = y[0], y[1]
    squares = u * u + v * v
    cubes = squares * xp.sqrt(squares)
    return xp.stack([y[2], y[3], -u / cubes, -v / cubes])


def start(eccentricity):
    """The state at the point that is nearest to the origin."""
    e = eccentricity
    return 1.0 - e, 0.0, 0.0, np.sqrt((1.0 + e) / (1.0 - e))


@problem(*start(0.1))
def d1(xp, t, y):
    """An orbit of eccentricity 0.1."""
    return orbit(xp, y)


@problem(*start(0.3))
def d2(xp, t, y):
    """An orbit of eccentricity 0.3."""
    return orbit(xp, y)


@problem(*start(0.5))
def d3(xp, t, y):
    """An orbit of eccentricity 0.5."""
    return orbit(xp, y)


@problem(*start(0.7))
def d4(xp, t, y):
    """An orbit of eccentricity 0.7."""
    return orbit(xp, y)


@problem(*start(0.9))
def d5(xp, t, y):
    """An orbit of eccentricity 0.9."""
    return orbit(xp, y)


@problem(
    np.sqrt(2.0 / np.pi) * np.sin(1.0), np.sqrt(2.0 / np.pi) * (np.cos(1.0) - 0.5 * np.sin(1.0))
)
def e1(xp, t, y):
    """Bessel's equation of order 1/2, the time moved by 1."""
    u, v = y[0], y[1]
    x = t + 1.0
    return xp.stack([v, -v / x - (1.0 - 0.25 / (x * x)) * u])


@problem(2.0, 0.0)
def e2(xp, t, y):
    """Van der Pol's equation."""
    u, v = y[0], y[1]
    return xp.stack([v, (1.0 - u * u) * v - u])


@problem(0.0, 0.0)
def e3(xp, t, y):
    """Duffing's equation."""
    u, v = y[0], y[1]
    return xp.stack([v, u * u * u / 6.0 - u + 2.0 * xp.sin(2.78535 * t)])


@problem(30.0, 0.0)
def e4(xp, t, y):
    """A falling body."""
    v = y[1]
    return xp.stack([v, 0.032 - 0.4 * v * v])


@problem(0.0, 0.0)
def e5(xp, t, y):
    """A linear pursuit."""
    v = y[1]
    return xp.stack([v, xp.sqrt(1.0 + v * v) / (25.0 - t)])
