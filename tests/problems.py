"""A bank of initial value problems with closed-form solutions, in float64."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf


class ODE(NamedTuple):
    """`dy/dt = func(t, y)` with `solution(t)`, on times from `t0` to `t1`."""

    func: Callable
    solution: Callable
    t0: float
    t1: float

    @property
    def y0(self):
        """The initial state."""
        return tf.constant(self.solution(self.t0), tf.float64)


MATRIX = np.array([[-0.5, 1.0, 0.0], [-1.0, -0.2, 0.3], [0.1, 0.0, -0.4]])
START = np.array([1.0, -0.5, 2.0])

PROBLEMS = {
    # dy/dt = A y
    "linear": ODE(
        lambda t, y: tf.linalg.matvec(tf.constant(MATRIX, tf.float64), y),
        lambda t: scipy.linalg.expm(MATRIX * t) @ START,
        0.0,
        1.5,
    ),
    # dy/dt = y (1 - y)
    "logistic": ODE(
        lambda t, y: y * (1.0 - y), lambda t: np.array([1 / (1 + 9 * np.exp(-t))]), 0.0, 2.0
    ),
    # dy/dt = -2 t y, which depends on the time. From -0.5 to 1 the leading error of the
    # 3/8 rule would change its sign.
    "gaussian": ODE(lambda t, y: -2.0 * t * y, lambda t: np.array([np.exp(-(t**2))]), 0.2, 1.5),
    # Backward in time
    "reverse": ODE(lambda t, y: y * tf.cos(t), lambda t: np.array([np.exp(np.sin(t))]), 2.0, 0.5),
}


# A function without arguments, as it is, traced, and compiled.
MODES = {
    "eager": lambda f: f,
    "function": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


# One of them in every run, the others in the slow one.
ONE_MODE = [x if x == "function" else pytest.param(x, marks=pytest.mark.slow) for x in MODES]


def central_difference(function, point, epsilon=1e-5):
    """The gradient of a scalar function of a vector, element by element."""
    steps = epsilon * np.eye(len(point))
    ends = [[float(function(point + sign * step)) for sign in (1, -1)] for step in steps]
    return np.diff(ends)[:, 0] / (-2 * epsilon)
