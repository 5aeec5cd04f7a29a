"""`StepBackup`: training goes on within an epoch as if it had not been stopped."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfnode import ODEBlock, callbacks, layers
from tfnode.callbacks.checkpoint import CheckpointError

pytestmark = pytest.mark.few(2)

BATCHES = 5
X = np.linspace(-1, 1, 2 * 8 * BATCHES, dtype=np.float32).reshape(8 * BATCHES, 2)


def _model(units=4, seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            ODEBlock(layers.DenseDynamics(units), solver="heun21"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], jit_compile=False)
    return model


class Stopped(Exception):
    pass


class _Stop(keras.callbacks.Callback):
    def __init__(self, epoch, step):
        super().__init__()
        self.at = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if logs and (self.epoch, batch + 1) == self.at:
            raise Stopped


def _fit(model, backup, epoch=0, stop=None):
    """Two epochs, from one on; returns the logs of each."""
    rows = []
    batches = tf.data.Dataset.from_tensor_slices((X, X)).batch(8).repeat().skip(backup.step)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: rows.append(dict(logs)))
    listeners = [callbacks.SolverStats(), keep, *([_Stop(*stop)] if stop else []), backup]
    model.fit(
        batches,
        initial_epoch=epoch,
        epochs=2,
        steps_per_epoch=BATCHES,
        callbacks=listeners,
        verbose=0,
    )
    return rows


def _state(model):
    return [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    model = _model()
    path = tmp_path_factory.mktemp("whole") / "step.npz"
    rows = _fit(model, callbacks.StepBackup(path, seconds=0.0))
    assert not path.exists()  # It ended.
    return rows, _state(model)


def _stopped(path, at):
    with pytest.raises(Stopped):
        _fit(_model(), callbacks.StepBackup(path, seconds=0.0), stop=at)
    return path


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    """The content of a file of three steps."""
    return _stopped(tmp_path_factory.mktemp("stopped") / "step.npz", (0, 3)).read_bytes()


@pytest.mark.parametrize("at", [(0, 2), (0, 5)], ids=str)
@pytest.mark.few(1)
def test_goes_on_as_if_never_stopped(tmp_path, whole, at):
    """Weights, random numbers, metrics, costs of the solves; twice within one epoch."""
    path = _stopped(tmp_path / "new" / "step.npz", at)
    model, backup = _model(seed=1), callbacks.StepBackup(path, seconds=0.0)
    backup.restore(model, 0)
    assert backup.step == at[1] - 1
    if at[1] < BATCHES:
        with pytest.raises(Stopped):
            _fit(model, backup, stop=(0, at[1] + 1))
        model, backup = _model(seed=2), callbacks.StepBackup(path, seconds=0.0)
        backup.restore(model, 0)
        assert backup.step == at[1]
    rows, state = whole
    assert rows[0]["nfe_forward"] > 4
    assert _fit(model, backup) == rows
    for a, b in zip(_state(model), state):
        np.testing.assert_array_equal(a, b)
    assert list((tmp_path / "new").iterdir()) == []


def test_only_every_so_often(tmp_path):
    backup = callbacks.StepBackup(tmp_path / "step.npz", seconds=3600.0)
    with pytest.raises(Stopped):
        _fit(_model(), backup, stop=(1, 4))
    assert list(tmp_path.iterdir()) == []


def test_of_another_epoch_is_left_alone(tmp_path, backup):
    path = tmp_path / "step.npz"
    path.write_bytes(backup)
    model, backup = _model(seed=1), callbacks.StepBackup(path)
    model.optimizer.build(model.trainable_variables)
    before = _state(model)
    backup.restore(model, 1)
    assert (backup.step, backup.elapsed) == (0, 0.0)
    for a, b in zip(_state(model), before):
        np.testing.assert_array_equal(a, b)
    callbacks.StepBackup(tmp_path / "none.npz").restore(model, 0)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = _model()
    model.layers[-1].kernel.assign(np.full((2, 2), np.nan))
    # The weights of the block are lost in the first step, so the solver fails in the second.
    with pytest.raises(tf.errors.InvalidArgumentError):
        _fit(model, callbacks.StepBackup(tmp_path / "step.npz", seconds=0.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "another model"])
def test_what_cannot_be_used(tmp_path, backup, damage):
    path = tmp_path / "step.npz"
    path.write_bytes({"cut": backup[:-50], "empty": b""}.get(damage, backup))
    model = _model(units=5 if damage == "another model" else 4)
    with pytest.raises(CheckpointError, match=r"step\.npz.*Remove it"):
        callbacks.StepBackup(path).restore(model, 0)
