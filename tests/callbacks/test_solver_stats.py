"""`SolverStats`: evaluations that are known beforehand, in the logs and for TensorBoard."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_results import scalars

import tfnode
from tfnode import solvers
from tfnode.callbacks import SolverStats

pytestmark = pytest.mark.few(2)

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2)


def _block(solver="rk4", gradient="adjoint", **arguments):
    return tfnode.ODEBlock(tfnode.layers.DenseDynamics(4), solver, gradient, **arguments)


def _logs(layers, epochs=2, **options):
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    # Three batches, the last of them smaller.
    history = model.fit(
        X, X[:, :1], epochs=epochs, batch_size=5, callbacks=[SolverStats()], verbose=0, **options
    )
    return history.history


@pytest.mark.parametrize(
    "solver, gradient, forward, backward",
    [
        ("rk4", "adjoint", 4, 4),
        ("rk4", "backprop", 4, 0),
        ("rk38", "adjoint", 4, 4),
        ("euler", "adjoint", 1, 1),
        ("midpoint", "adjoint", 2, 2),
        (solvers.RK4(num_steps=3), "adjoint", 12, 12),
        (solvers.Euler(num_steps=5), "backprop", 5, 0),
    ],
)
def test_known_evaluations(solver, gradient, forward, backward):
    logs = _logs([_block(solver, gradient)])
    assert logs["nfe_forward"] == [forward, forward]
    assert logs["nfe_backward"] == [backward, backward]


def test_several_times():
    logs = _logs([_block("rk4", times=(0.0, 0.5, 1.0))], epochs=1)
    assert logs["nfe_forward"] == [8]
    assert logs["nfe_backward"] == [8]


def test_blocks_are_summed():
    logs = _logs([_block("rk4"), _block("euler", "backprop"), _block("midpoint")], epochs=1)
    assert logs["nfe_forward"] == [4 + 1 + 2]
    assert logs["nfe_backward"] == [4 + 2]


def test_nested_blocks_are_found():
    inner = keras.Sequential([keras.Input((2,)), _block("rk4")])
    logs = _logs([inner], epochs=1)
    assert logs["nfe_forward"] == [4]
    assert logs["nfe_backward"] == [4]


def test_validation_does_not_count():
    logs = _logs([_block("rk4")], validation_data=(X, X[:, :1]))
    assert logs["nfe_forward"] == logs["nfe_backward"] == [4, 4]
    assert "val_nfe_forward" not in logs


def test_model_without_blocks_has_none():
    assert "nfe_forward" not in _logs([keras.layers.Dense(2)])


def test_counting_starts_anew_each_epoch():
    block = _block("rk4")
    _logs([block], epochs=3)
    costs = block.costs()
    # One step of four evaluations in each of the last epoch's three batches.
    for way in ("forward", "backward"):
        assert [costs[f"{way}{x}"] for x in ("_solves", "", "_steps", "_rejected")] == [3, 12, 3, 0]


def test_steps_and_rejections():
    logs = _logs([_block(tfnode.solvers.Dopri5(rtol=1e-8, atol=1e-8, first_step=1.0))])
    # A first step of the whole interval is too long; the count is by the tableau.
    for way in ("forward", "backward"):
        steps, rejected = logs[f"steps_{way}"][0], logs[f"rejected_{way}"][0]
        assert steps > 1
        assert rejected >= 1
        assert logs[f"nfe_{way}"][0] == pytest.approx(1 + 6 * (steps + rejected))


def test_unknown_steps_are_left_out():
    model = keras.Sequential([keras.Input(batch_shape=(4, 2)), _block("bdf")])
    model.compile("sgd", "mse", jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices((X, X)).batch(4, drop_remainder=True)
    logs = model.fit(batches, callbacks=[SolverStats()], verbose=0).history
    assert "nfe_forward" in logs
    assert not {"steps_forward", "rejected_backward"} & set(logs)


def test_reconstruction_error():
    """dy/dt = -4 y by Euler: back over the same step, y (1 - 4h) (1 + 4h) is not y."""

    def error(steps, gradient):
        dynamics = keras.layers.Dense(2, use_bias=False, kernel_initializer=_minus_four)
        block = tfnode.ODEBlock(dynamics, tfnode.solvers.Euler(num_steps=steps), gradient)
        model = keras.Sequential([keras.Input((2,)), block])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        stats = SolverStats()
        return model.fit(X, X, callbacks=[stats], verbose=0).history["reconstruction_error"][0]

    for steps in (10, 100):
        expected = 1 - (1 - (4 / steps) ** 2) ** steps
        assert error(steps, "adjoint") == pytest.approx(expected, rel=1e-3)
    assert error(10, "checkpoint") == 0.0


def _minus_four(shape, dtype=None):
    return -4.0 * keras.ops.eye(shape[0], dtype=dtype)


def test_keras_writes_them_for_tensorboard(tmp_path):
    model = keras.Sequential([keras.Input((2,)), _block("rk4"), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    listeners = [SolverStats(), keras.callbacks.TensorBoard(tmp_path, write_graph=False)]
    model.fit(X, X[:, :1], epochs=2, callbacks=listeners, verbose=0)
    found = scalars(tmp_path)
    for tag in ("epoch_nfe_forward", "epoch_nfe_backward"):
        assert [found["train", tag, epoch] for epoch in (0, 1)] == [[4.0], [4.0]]


def test_a_subclassed_model_whose_block_is_not_built_yet():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = tfnode.ODEBlock(keras.layers.Dense(2))

        def call(self, x, training=None):
            return self.block(x, training=training)

    model = Model()
    assert set(model.block.costs().values()) == {0}
    model.compile("sgd", "mse", run_eagerly=True)  # So nothing builds it before the first batch.
    x = np.ones((2, 2), np.float32)
    history = model.fit(x, x, verbose=0, callbacks=[SolverStats()]).history
    assert history["nfe_forward"] == [4.0]
