"""What the solves of layers for series cost: counted by the solver, a pass at a time."""

import keras
import numpy as np
import pytest

import tfnode
from tfnode.callbacks import SolverStats
from tfnode.layers import ODERNN, DecayRNN, NeuralCDE

BATCH, POINTS, BATCHES = 4, 5, 3
VALUES = np.random.default_rng(0).normal(size=(BATCH * BATCHES, POINTS, 2)).astype("float32")
TIMES = np.tile(np.float32([0.0, 0.5, 0.7, 1.5, 1.5]), (len(VALUES), 1))
pytestmark = pytest.mark.few(2)

LAYERS = {"ODERNN": ODERNN, "NeuralCDE": NeuralCDE}


def _fit(layer, jit_compile=False, epochs=2, **options):
    inputs = keras.Input((POINTS, 2)), keras.Input((POINTS,))
    outputs = keras.layers.Dense(1)(layer(inputs[0], times=inputs[1]))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    x, y = (VALUES, TIMES), VALUES[:, 0, :1]
    options = {"batch_size": BATCH, "epochs": epochs, "verbose": 0, **options}
    return model.fit(x, y, callbacks=[SolverStats()], **options).history


@pytest.mark.parametrize(
    "solver, steps, gradient, factor, jit_compile",
    [
        ("rk4", 1, "checkpoint", 1, False),
        ("rk4", 1, "checkpoint", 1, True),
        ("midpoint", 2, "adjoint", 1, False),
        ("midpoint", 2, "adjoint", 1, True),
        ("midpoint", 2, "backprop", 0, False),  # Under XLA a scan has no such gradient.
    ],
)
@pytest.mark.parametrize("name", LAYERS)
def test_known_evaluations(name, solver, steps, gradient, factor, jit_compile):
    logs = _fit(LAYERS[name](3, solver=solver, gradient=gradient, num_steps=steps), jit_compile)
    # A solve for each point, from the one before; the first is over no time. Each takes 4.
    assert logs["nfe_forward"] == [4 * POINTS] * 2
    assert logs["steps_forward"] == [steps * POINTS] * 2
    assert logs["rejected_forward"] == [0, 0]
    assert logs["nfe_backward"] == [factor * 4 * POINTS] * 2
    assert logs["steps_backward"] == [factor * steps * POINTS] * 2


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_steps_of_each_sample_are_summed(name):
    solver = tfnode.solvers.Dopri5(rtol=1e-6, atol=1e-6, first_step=0.6)
    logs = _fit(LAYERS[name](3, solver=solver), epochs=1)
    steps, rejected = logs["steps_forward"][0], logs["rejected_forward"][0]
    moving = 3  # Of the five solves one is over no time at first, and one over padding.
    assert steps > moving * BATCH
    assert rejected > 0
    tried = 6 * (steps + rejected)
    assert tried + moving * BATCH <= logs["nfe_forward"][0] <= tried + POINTS * BATCH
    assert logs["steps_backward"][0] == steps


def test_the_reconstruction_error_is_summed_over_the_points():
    """dh/dt = -4 h by Euler: back over the same step, h (1 - 4s) (1 + 4s) is not h."""

    def minus_four(shape, dtype=None):
        return -4.0 * keras.ops.eye(shape[0], dtype=dtype)

    dynamics = keras.layers.Dense(3, use_bias=False, kernel_initializer=minus_four)
    layer = ODERNN(3, dynamics, solver="euler", gradient="adjoint")
    logs = _fit(layer, epochs=1, batch_size=len(VALUES))
    expected = sum((4 * gap) ** 2 for gap in (0.5, 0.2, 0.8))
    assert logs["reconstruction_error"][0] == pytest.approx(expected, rel=1e-4)


def test_only_training_counts():
    layer = ODERNN(3)
    assert set(layer.costs().values()) == {0}
    layer(VALUES, times=TIMES)
    layer(VALUES, times=TIMES, training=False)
    assert set(layer.costs().values()) == {0}
    layer(VALUES, times=TIMES, training=True)
    assert layer.costs()["forward"] == 4 * POINTS
    assert layer.costs()["forward_solves"] == 1
    layer.reset_costs()
    assert set(layer.costs().values()) == {0}


def test_costs_are_added_where_a_run_was_broken_off():
    one, other = ODERNN(3), ODERNN(3)
    one(VALUES, times=TIMES, training=True)
    other(VALUES, times=TIMES)
    other.add_costs(one.costs().values())
    assert other.costs() == one.costs()


def test_a_decaying_network_has_no_solves():
    assert "nfe_forward" not in _fit(DecayRNN(3), epochs=1)
