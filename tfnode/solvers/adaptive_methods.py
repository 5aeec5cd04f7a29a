"""The adaptive Runge-Kutta methods."""

import keras

from tfnode.solvers.adaptive_step import AdaptiveStep
from tfnode.solvers.tableau import ButcherTableau


@keras.saving.register_keras_serializable("tfnode")
class Heun21(AdaptiveStep):
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
class Bosh3(AdaptiveStep):
    """Bogacki and Shampine's method: order 3(2), 4 stages, 3 evaluations a step.

    Dense output by the cubic Hermite polynomial.

    Reference: Bogacki, Shampine, *A 3(2) pair of Runge-Kutta formulas* (1989).
    """

    tableau = ButcherTableau(
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0.0),
        order=3,
        b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        dense=((1.0, -4 / 3, 5 / 9), (0.0, 1.0, -2 / 3), (0.0, 4 / 3, -8 / 9), (0.0, -1.0, 1.0)),
    )


@keras.saving.register_keras_serializable("tfnode")
class Dopri5(AdaptiveStep):
    """Dormand and Prince's method: order 5(4), 7 stages, 6 evaluations a step.

    Dense output of order 4.

    Reference: Dormand, Prince, *A family of embedded Runge-Kutta formulae* (1980); Shampine,
    *Some practical Runge-Kutta formulas* (1986), for the dense output.
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
        dense=(
            (
                1.0,
                -8048581381 / 2820520608,
                8663915743 / 2820520608,
                -12715105075 / 11282082432,
            ),
            (0.0, 0.0, 0.0, 0.0),
            (
                0.0,
                131558114200 / 32700410799,
                -68118460800 / 10900136933,
                87487479700 / 32700410799,
            ),
            (
                0.0,
                -1754552775 / 470086768,
                14199869525 / 1410260304,
                -10690763975 / 1880347072,
            ),
            (
                0.0,
                127303824393 / 49829197408,
                -318862633887 / 49829197408,
                701980252875 / 199316789632,
            ),
            (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
            (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
        ),
    )


@keras.saving.register_keras_serializable("tfnode")
class Tsit5(AdaptiveStep):
    """Tsitouras's method: order 5(4), 7 stages, 6 evaluations a step.

    Dense output of order 4.

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
        dense=(
            (0.9999999999999998, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
            (0.0, 0.13169999999999998, -0.2234, 0.1017),
            (0.0, 3.930296236894751, -5.941033872131505, 2.490627285651253),
            (0.0, -12.411077166933676, 30.338188630282318, -16.548102889244902),
            (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
            (0.0, -27.896526289197286, 65.09189467479368, -34.87065786149661),
            (0.0, 1.5, -4.0, 2.5),
        ),
    )
