"""`Ralston`, the method of order 2 with the least bound on its error."""

import keras

from tfnode.solvers.explicit import Embedded
from tfnode.solvers.tableau import ButcherTableau


@keras.saving.register_keras_serializable("tfnode")
class Ralston(Embedded):
    """Ralston's method with Euler's embedded: order 2(1), 2 stages, 2 evaluations a step.

    Its bound on the error of a step is the least of all methods of order 2 with two stages.
    Dense output by the cubic Hermite polynomial.

    Reference: Ralston, *Runge-Kutta methods with minimum error bounds* (1962).
    """

    tableau = ButcherTableau(
        c=(0.0, 2 / 3),
        a=((), (2 / 3,)),
        b=(1 / 4, 3 / 4),
        order=2,
        b_error=(-3 / 4, 3 / 4),
        dense=((1.0, -5 / 4, 1 / 2), (0.0, 9 / 4, -3 / 2), (0.0, -1.0, 1.0)),
    )
