"""`TensorBoard`: every epoch on disk at once, and once."""

import keras
import numpy as np
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
    return {
        ("train", "epoch_loss"): [*range(epochs)],
        ("train", "epoch_learning_rate"): [*range(epochs)],
        ("validation", "epoch_loss"): [*range(epochs)],
        ("validation", "evaluation_loss_vs_iterations"): [
            STEPS * (epoch + 1) for epoch in range(epochs)
        ],
    }


def test_on_disk_after_every_epoch(tmp_path):
    """What a checkpoint knows of must be there, even if a kill follows at once."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(_steps(tmp_path))

    _fit(_model(), [TensorBoard(tmp_path, write_graph=False), Look()], epochs=2)
    assert seen == [_expected(1), _expected(2)]


def test_repeated_epochs_are_there_once(tmp_path):
    model = _model()
    _fit(model, [TensorBoard(tmp_path, write_graph=False)], epochs=3)
    tensor_board = TensorBoard(tmp_path, write_graph=False)
    model.optimizer.iterations.assign(STEPS)
    tensor_board.forget(1, STEPS)
    assert _steps(tmp_path) == _expected(1)
    _fit(model, [tensor_board], initial_epoch=1, epochs=3)
    assert _steps(tmp_path) == _expected(3)


def test_files_that_need_nothing_are_left_alone(tmp_path):
    tensor_board = TensorBoard(tmp_path, write_graph=False)
    _fit(_model(), [tensor_board], epochs=2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    tensor_board.forget(2, 2 * STEPS)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_file_that_a_kill_has_cut(tmp_path):
    tensor_board = TensorBoard(tmp_path, write_graph=False)
    _fit(_model(), [tensor_board], epochs=2)
    for path in tmp_path.rglob("*tfevents*"):
        path.write_bytes(path.read_bytes() + b"the beginning of a record")
    tensor_board.forget(2, 2 * STEPS)
    assert _steps(tmp_path) == _expected(2)


def test_nothing_there_yet(tmp_path):
    TensorBoard(tmp_path / "run").forget(0, 0)
    assert not (tmp_path / "run").exists()
