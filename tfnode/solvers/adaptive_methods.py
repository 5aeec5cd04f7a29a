"""The adaptive Runge-Kutta methods."""

import keras

from tfnode.solvers.adaptive_step import AdaptiveStep
from tfnode.solvers.tableau import ButcherTableau


@keras.saving.register_keras_serializable("tfnode")
class Heun21(AdaptiveStep):
    """Heun's method with Euler's embedded: order 2(1), 2 stages, 2 evaluations a step.

    Reference: Hairer, Norsett, Wanner (1993), section II.4.
    """

    tableau = ButcherTableau(
        c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 0.5), order=2, b_error=(-0.5, 0.5)
    )


@keras.saving.register_keras_serializable("tfnode")
class Bosh3(AdaptiveStep):
    """Bogacki and Shampine's method: order 3(2), 4 stages, 3 evaluations a step.

    Reference: Bogacki, Shampine, *A 3(2) pair of Runge-Kutta formulas* (1989).
    """

    tableau = ButcherTableau(
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0.0),
        order=3,
        b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    )


@keras.saving.register_keras_serializable("tfnode")
class Dopri5(AdaptiveStep):
    """Dormand and Prince's method: order 5(4), 7 stages, 6 evaluations a step.

    Reference: Dormand, Prince, *A family of embedded Runge-Kutta formulae* (1980).
    """

    tableau = ButcherTableau(
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        order=5,
        b_error=(
            35 / 384 - 5179 / 57600,
            0.0,
            500 / 1113 - 7571 / 16695,
            125 / 192 - 393 / 640,
            -2187 / 6784 + 92097 / 339200,
            11 / 84 - 187 / 2100,
            -1 / 40,
        ),
    )


@keras.saving.register_keras_serializable("tfnode")
class Tsit5(AdaptiveStep):
    """Tsitouras's method: order 5(4), 7 stages, 6 evaluations a step.

    Reference: Tsitouras, *Runge-Kutta pairs of order 5(4) satisfying only the first column
    simplifying assumption* (2011).
    """

    tableau = ButcherTableau(
        c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
        a=(
            (),
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (
                5.86145544294642,
                -12.92096931784711,
                8.159367898576159,
                -0.071584973281401,
                -0.028269050394068383,
            ),
            (
                0.09646076681806523,
                0.01,
                0.4798896504144996,
                1.379008574103742,
                -3.290069515436081,
                2.324710524099774,
            ),
        ),
        b=(
            0.09646076681806523,
            0.01,
            0.4798896504144996,
            1.379008574103742,
            -3.290069515436081,
            2.324710524099774,
            0.0,
        ),
        order=5,
        b_error=(
            -0.001780011052225777,
            -0.0008164344596567469,
            0.007880878010261995,
            -0.1447110071732629,
            0.5823571654525552,
            -0.45808210592918697,
            0.015151515151515152,
        ),
    )
