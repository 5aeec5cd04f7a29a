"""`Backup`: all of the state, in a file that is whole or not there."""

import keras
import numpy as np
import pytest

from tfnode.callbacks import Backup
from tfnode.callbacks.checkpoint import CheckpointError

pytestmark = pytest.mark.few(2)

X = np.linspace(-1, 1, 48, dtype=np.float32).reshape(24, 2)


def _model(units=4, optimizer="adam", seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(units, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def _fit(model, backup, **options):
    return model.fit(X, X, batch_size=8, shuffle=False, callbacks=[backup], verbose=0, **options)


def _state(model):
    return [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.SGD(0.01, momentum=0.9),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    ],
    ids=["adam", "momentum", "loss scale"],
)
def test_goes_on_as_if_never_stopped(tmp_path, optimizer):
    """Weights, averages, moments, steps and the states of dropout's random numbers."""
    whole = _model(optimizer=optimizer())
    losses = _fit(whole, Backup(tmp_path / "whole.npz"), epochs=3).history["loss"]
    backup = Backup(tmp_path / "new" / "latest.npz")
    _fit(_model(optimizer=optimizer()), backup, epochs=1)
    model = _model(optimizer=optimizer(), seed=1)
    epoch = backup.restore(model)
    assert epoch == 1
    assert _fit(model, backup, initial_epoch=epoch, epochs=3).history["loss"] == losses[1:]
    for a, b in zip(_state(model), _state(whole)):
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["latest.npz"]


def test_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    backup = Backup(tmp_path / "latest.npz")
    model = _model()
    _fit(model, backup, epochs=1)

    def save(path, **arrays):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", save)
    with pytest.raises(KeyboardInterrupt):
        _fit(model, backup, initial_epoch=1, epochs=2)
    assert backup.restore(_model()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["latest.npz"]


@pytest.mark.parametrize(
    "other", [{"units": 5}, {"optimizer": "sgd"}, {"optimizer": "rmsprop"}], ids=str
)
def test_another_model_is_refused(tmp_path, other):
    backup = Backup(tmp_path / "latest.npz")
    _fit(_model(), backup, epochs=1)
    model = _model(**other)
    before = [np.copy(x) for x in model.get_weights()]
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        backup.restore(model)
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_no_pickles(tmp_path):
    path = tmp_path / "latest.npz"
    np.savez(path, epoch=np.array({"a": 1}, dtype=object), layout=np.array(["a"]))
    with pytest.raises(CheckpointError, match=r"latest\.npz"):
        Backup(path).restore(_model())


@pytest.mark.parametrize("arrays", [{}, {"epoch": 1}, {"epoch": [1, 2], "layout": ["a"]}], ids=str)
def test_missing_parts(tmp_path, arrays):
    path = tmp_path / "latest.npz"
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match=r"latest\.npz"):
        Backup(path).restore(_model())


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"latest\.npz"):
        Backup(tmp_path / "latest.npz").restore(_model())
