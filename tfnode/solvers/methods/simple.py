"""The Runge-Kutta methods without an error estimate."""

import keras

from tfnode.solvers.explicit import Explicit
from tfnode.solvers.tableau import ButcherTableau


@keras.saving.register_keras_serializable("tfnode")
class Euler(Explicit):
    """Euler's method: order 1, 1 stage, 1 evaluation a step.

    Reference: Hairer, Norsett, Wanner (1993), section I.7.
    """

    tableau = ButcherTableau(c=(0.0,), a=((),), b=(1.0,), order=1)


@keras.saving.register_keras_serializable("tfnode")
class Midpoint(Explicit):
    """The explicit midpoint rule: order 2, 2 stages, 2 evaluations a step.

    Reference: Hairer, Norsett, Wanner (1993), section II.1, equation (1.3').
    """

    tableau = ButcherTableau(c=(0.0, 0.5), a=((), (0.5,)), b=(0.0, 1.0), order=2)


@keras.saving.register_keras_serializable("tfnode")
class RK4(Explicit):
    """The classic Runge-Kutta method: order 4, 4 stages, 4 evaluations a step.

    Reference: Kutta (1901); Hairer, Norsett, Wanner (1993), table II.1.2, left.
    """

    tableau = ButcherTableau(
        c=(0.0, 0.5, 0.5, 1.0),
        a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        order=4,
    )


@keras.saving.register_keras_serializable("tfnode")
class RK38(Explicit):
    """The 3/8 rule: order 4, 4 stages, 4 evaluations a step.

    This is the method behind `method="rk4"` in torchdiffeq, and so the "Runge-Kutta with
    fixed steps" of experiments made with it.

    Reference: Kutta (1901); Hairer, Norsett, Wanner (1993), table II.1.2, right.
    """

    tableau = ButcherTableau(
        c=(0.0, 1 / 3, 2 / 3, 1.0),
        a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
        order=4,
    )
