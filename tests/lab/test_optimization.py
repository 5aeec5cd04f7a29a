"""The optimizer that a config asks for."""

import math

import keras
import numpy as np
import pytest

from tfnode import callbacks
from tfnode.callbacks.curve_export import last_learning_rate
from tfnode.lab import optimization
from tfnode.lab.settings import Settings


def _optimizer(steps=100, **settings):
    return optimization.optimizer(Settings(learning_rate=0.5, **settings), steps)


def test_without_more_it_is_plain_adam():
    optimizer = _optimizer(schedule="constant", weight_decay=0.0, ema=0.0)
    assert optimizer.get_config() == keras.optimizers.Adam(0.5, name="adam").get_config()
    assert type(optimizer) is keras.optimizers.Adam


def test_one_cycle():
    rates = [float(optimization.one_cycle(0.5, 100)(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[25] == pytest.approx(0.5)
    assert np.diff(rates[:26]) == pytest.approx((0.5 - 0.02) / 25, abs=1e-6)
    falling = [0.25 * (1 + math.cos(math.pi * step / 75)) for step in range(76)]
    assert rates[25:] == pytest.approx(falling, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_learning_rate_of_the_last_step(precision):
    keras.config.set_dtype_policy(precision)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype="float32")])
    model.compile(_optimizer(schedule="one_cycle"), "mse")
    model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
    assert last_learning_rate(model.optimizer) == pytest.approx(0.02)
    model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
    assert last_learning_rate(model.optimizer) == pytest.approx(0.02 + 0.48 / 25)


def test_weight_decay_is_of_kernels_alone():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, bias_initializer="ones"),
            keras.layers.LayerNormalization(),
        ]
    )
    model.compile(_optimizer(weight_decay=0.1), lambda y, p: 0.0 * p)
    before = model.get_weights()
    model.train_on_batch(np.ones((1, 2)), np.ones((1, 2)))
    kernel, *rest = model.get_weights()
    np.testing.assert_allclose(kernel, before[0] * (1 - 0.5 * 0.1), rtol=1e-6)
    for new, old in zip(rest, before[1:]):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.few(1)
def test_the_average_is_validated_and_saved_and_the_last_weights_are_trained(precision):
    keras.config.set_dtype_policy(precision)

    def model(ema):
        layer = keras.layers.Dense(1, use_bias=False, dtype="float32")
        model = keras.Sequential([keras.Input((1,)), layer])
        model.compile(_optimizer(ema=ema, schedule="constant", weight_decay=0.0), "mse")
        model.set_weights([np.ones((1, 1))])
        return model

    class Record(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = {"step": [], "test": [], "epoch": []}

        def _look(self, name):
            self.seen[name].append(self.model.get_weights()[0].item())

        def on_train_batch_end(self, batch, logs=None):
            self._look("step")

        def on_test_batch_end(self, batch, logs=None):
            self._look("test")

        def on_epoch_end(self, epoch, logs=None):
            self._look("epoch")

    x, y = np.ones((4, 1)), np.full((4, 1), 5.0)
    seen = {}
    for ema in (0.0, 0.75):
        before, after = Record(), Record()
        listeners = [before, callbacks.AverageWeights(), after]
        trained = model(ema)
        trained.fit(
            x, y, batch_size=1, epochs=3, validation_data=(x[:1], y[:1]), callbacks=listeners,
            shuffle=False, verbose=0,
        )  # fmt: skip
        seen[ema] = before.seen, after.seen, trained.get_weights()[0].item()
    steps = seen[0.0][0]["step"]
    assert seen[0.75][0]["step"] == steps
    averages = [steps[0]]
    for weight in steps[1:]:
        averages.append(0.75 * averages[-1] + 0.25 * weight)
    assert seen[0.0][1]["test"] == seen[0.0][1]["epoch"] == steps[3::4]
    assert seen[0.75][0]["epoch"] == steps[3::4]
    for name in ("test", "epoch"):
        assert seen[0.75][1][name] == pytest.approx(averages[3::4], rel=1e-5)
    assert seen[0.75][2] == pytest.approx(averages[-1], rel=1e-5)


def test_before_the_first_step_there_are_no_averages():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(use_ema=True), "mse")
    x = np.ones((4, 1))
    losses = [
        model.evaluate(x, x, verbose=0, callbacks=c) for c in ([callbacks.AverageWeights()], [])
    ]
    assert losses[0] == losses[1]
    callbacks.AverageWeights(model).put_in()
