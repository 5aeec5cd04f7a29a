"""Heun's method, with an error estimate and without."""

import keras

from tfnode.solvers.explicit import Embedded, Explicit
from tfnode.solvers.tableau import ButcherTableau


@keras.saving.register_keras_serializable("tfnode")
class Heun21(Embedded):
    """Heun's method with Euler's embedded: order 2(1), 2 stages, 2 evaluations a step.

    Dense output by the cubic Hermite polynomial.

    Reference: Hairer, Norsett, Wanner (1993), section II.4.
    """

    tableau = ButcherTableau(
        c=(0.0, 1.0),
        a=((), (1.0,)),
        b=(0.5, 0.5),
        order=2,
        b_error=(-0.5, 0.5),
        dense=((1.0, -1 / 2, 0.0), (0.0, 3 / 2, -1.0), (0.0, -1.0, 1.0)),
    )


@keras.saving.register_keras_serializable("tfnode")
class Heun(Explicit):
    """Heun's method, the explicit trapezoidal rule: order 2, 2 stages, 2 evaluations a step.

    Reference: Hairer, Norsett, Wanner (1993), section II.1.
    """

    tableau = Heun21.tableau
