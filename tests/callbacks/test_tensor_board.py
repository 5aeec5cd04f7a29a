"""`TensorBoard`: every epoch on disk at once, and once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_results import scalars

from tfnode.callbacks import TensorBoard

X = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
STEPS = 2


def _model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def _fit(model, callbacks, **options):
    y = X[:, :1]
    return model.fit(
        X, y, batch_size=4, validation_data=(X, y), callbacks=callbacks, verbose=0, **options
    )


def _steps(folder):
    """The steps of every tag, as often as they are there."""
    found = {}
    for (where, tag, step), values in scalars(folder).items():
        found.setdefault((where, tag), []).extend([step] * len(values))
    return {key: sorted(steps) for key, steps in found.items()}


def _expected(epochs):
    counted = [*range(1, epochs + 1)]
    return {
        ("train", "epoch/loss"): counted,
        ("train", "epoch/learning_rate"): counted,
        ("train", "step/loss"): [*range(1, STEPS * epochs + 1)],
        ("train", "step/learning_rate"): [*range(1, STEPS * epochs + 1)],
        ("validation", "epoch/loss"): counted,
    }


def test_on_disk_after_every_epoch(tmp_path):
    """What a checkpoint knows of must be there, even if a kill follows at once."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(_steps(tmp_path))

    _fit(_model(), [TensorBoard(tmp_path, every=1), Look()], epochs=2)
    assert seen == [_expected(1), _expected(2)]


def test_repeated_epochs_are_there_once(tmp_path):
    model = _model()
    _fit(model, [TensorBoard(tmp_path, every=1)], epochs=3)
    tensor_board = TensorBoard(tmp_path, every=1)
    model.optimizer.iterations.assign(STEPS)
    tensor_board.forget(1, STEPS)
    assert _steps(tmp_path) == _expected(1)
    _fit(model, [tensor_board], initial_epoch=1, epochs=3)
    assert _steps(tmp_path) == _expected(3)


def test_files_that_need_nothing_are_left_alone(tmp_path):
    tensor_board = TensorBoard(tmp_path, every=1)
    _fit(_model(), [tensor_board], epochs=2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    tensor_board.forget(2, 2 * STEPS)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_file_that_a_kill_has_cut(tmp_path):
    tensor_board = TensorBoard(tmp_path, every=1)
    _fit(_model(), [tensor_board], epochs=2)
    for path in tmp_path.rglob("*tfevents*"):
        path.write_bytes(path.read_bytes() + b"the beginning of a record")
    tensor_board.forget(2, 2 * STEPS)
    assert _steps(tmp_path) == _expected(2)


def test_nothing_there_yet(tmp_path):
    TensorBoard(tmp_path / "run").forget(0, 0)
    assert not (tmp_path / "run").exists()


def test_the_loss_of_each_step(tmp_path):
    """It is that of the step alone, and not the mean over the epoch so far."""
    model, losses = _model(), []
    y = X[:, :1]

    class Judge(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            part = slice(4 * batch, 4 * batch + 4)
            error = model(X[part]) - y[part]
            losses.append(float(keras.ops.mean(error**2)))

    callbacks = [TensorBoard(tmp_path, every=1), Judge()]
    model.fit(X, y, batch_size=4, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
    found = scalars(tmp_path)
    written = [found["train", "step/loss", step][0] for step in range(1, 5)]
    np.testing.assert_allclose(written, losses, rtol=1e-5)


def test_every_few_steps(tmp_path):
    _fit(_model(), [TensorBoard(tmp_path, every=3)], epochs=4)
    assert _steps(tmp_path)["train", "step/loss"] == [3, 6]


def test_costs_of_the_solver_are_a_group_without_zeros(tmp_path):
    class Costs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update(nfe_forward=7.0, rejected_forward=0.0, reconstruction_error=0.5)

    _fit(_model(), [Costs(), TensorBoard(tmp_path, every=1)], epochs=2)
    tags = {tag for _, tag in _steps(tmp_path) if tag.startswith("solver")}
    assert tags == {"solver/nfe_forward", "solver/reconstruction_error"}


def test_files_of_older_versions_forget_too(tmp_path):
    """Keras's tags count epochs from 0."""
    old = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    _fit(_model(), [old], epochs=3)
    TensorBoard(tmp_path).forget(1, STEPS)
    found = _steps(tmp_path)
    assert found["train", "epoch_loss"] == [0]
    assert found["validation", "evaluation_loss_vs_iterations"] == [STEPS]


def test_the_end(tmp_path):
    picture = tf.io.encode_png(np.zeros((2, 3, 4), np.uint8)).numpy()
    tensor_board = TensorBoard(tmp_path)
    hparams = {"rate": 0.1, "filters": 4, "norm": None}
    tensor_board.write_end(hparams, {"confusion": picture}, 5)
    plugins = {}
    for path in sorted(tmp_path.rglob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                plugins[value.metadata.plugin_data.plugin_name] = (value.tag, event.step)
    assert plugins["images"] == ("confusion", 5)
    assert plugins["hparams"][0] == "_hparams_/session_start_info"
    for every in (0, True, 1.5):
        with pytest.raises(ValueError, match="every"):
            TensorBoard(tmp_path, every=every)
