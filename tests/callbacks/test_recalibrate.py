"""`Recalibrate`: averages of the weights of now, compared with NumPy's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode.callbacks import AverageWeights, Recalibrate
from tfnode.layers import TimeBatchNormalization

MOMENTUM = 0.9
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(24, 3)) * [1.0, 2.0, 0.5] + [3.0, -1.0, 0.0]).astype(np.float32)
Y = RNG.normal(size=(24, 3)).astype(np.float32)


def _batches(x=X, size=8):
    return tf.data.Dataset.from_tensor_slices((x, Y[: len(x)])).batch(size)


def _model(learning_rate=0.1):
    """`h + norm(h)`, `h` being a dense layer of the inputs: one Euler step."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, name="dense"),
            tfnode.ODEBlock(TimeBatchNormalization(momentum=MOMENTUM, name="norm"), "euler"),
        ]
    )
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=False)
    return model


def _norm(model):
    (layer,) = [x for x in model._flatten_layers() if isinstance(x, TimeBatchNormalization)]
    return layer


def _expected(model, batches):
    """Mean and variance of the state at the first time, averaged over batches."""
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_layer("dense").get_weights())
    mean = variance = weight = 0.0
    for x, _ in batches.as_numpy_iterator():
        h = x @ kernel + bias
        mean = MOMENTUM * mean + (1 - MOMENTUM) * h.mean(0)
        variance = MOMENTUM * variance + (1 - MOMENTUM) * h.var(0, ddof=1)
        weight = MOMENTUM * weight + (1 - MOMENTUM)
    return mean / weight, variance / weight


def _averages(model):
    norm = _norm(model)
    weight = np.asarray(norm.weight)
    assert weight[0] > 0
    # The Euler step evaluates at the first time only.
    np.testing.assert_array_equal(weight[1:], 0)
    return np.asarray(norm.moving_mean)[0] / weight[0], (
        np.asarray(norm.moving_variance)[0] / weight[0]
    )


def _assert_calibrated(model, batches):
    for received, expected in zip(_averages(model), _expected(model, batches)):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_after_fit_the_averages_are_those_of_the_last_weights(tmp_path):
    model = _model()
    weights = []

    class Look(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            weights.append(model.get_weights()[0])
            _assert_calibrated(model, _batches())

    model.fit(
        _batches(),
        epochs=2,
        validation_data=_batches(),
        callbacks=[Recalibrate(_batches()), Look()],
        verbose=0,
    )
    assert len(weights) == 2
    assert not np.allclose(weights[0], weights[1])
    _assert_calibrated(model, _batches())


def test_without_it_they_lag(tmp_path):
    model = _model()
    model.fit(_batches(), epochs=2, verbose=0)
    received, expected = _averages(model)[0], _expected(model, _batches())[0]
    assert not np.allclose(received, expected, rtol=1e-2)


def test_earlier_averages_are_forgotten_and_weights_held():
    model = _model()
    norm = _norm(model)
    norm.moving_mean.assign(np.full((4, 3), 1e6))
    norm.weight.assign(np.ones((4, 1)))
    before = [np.asarray(v).copy() for v in model.trainable_variables]
    steps = int(model.optimizer.iterations)
    callback = Recalibrate(_batches())
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_test_begin()
    _assert_calibrated(model, _batches())
    for variable, value in zip(model.trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    assert int(model.optimizer.iterations) == steps


def test_inference_uses_them():
    model = _model()
    callback = Recalibrate(_batches())
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_test_begin()
    mean, variance = _expected(model, _batches())
    kernel, bias = model.get_layer("dense").get_weights()
    h = X @ kernel + bias
    expected = h + (h - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2])
def test_only_so_many_batches(steps):
    model = _model()
    callback = Recalibrate(_batches().repeat(), steps=steps)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_test_begin()
    _assert_calibrated(model, _batches().take(steps))


def test_only_during_fit():
    model = _model()
    callback = Recalibrate(_batches())
    model.fit(_batches(), epochs=1, validation_data=_batches(), callbacks=[callback], verbose=0)
    norm = _norm(model)
    norm.moving_mean.assign(np.full((4, 3), 7.0))
    model.evaluate(_batches(), callbacks=[callback], verbose=0)
    np.testing.assert_array_equal(norm.moving_mean, np.full((4, 3), 7.0))


def test_nothing_in_a_model_without_the_layer():
    drawn = []

    def generate():
        drawn.append(1)
        yield X, Y

    batches = tf.data.Dataset.from_generator(
        generate, output_types=("float32", "float32"), output_shapes=((24, 3), (24, 3))
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=1, validation_data=(X, Y), callbacks=[Recalibrate(batches)], verbose=0)
    assert drawn == []


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None, "3"])
def test_bad_steps(steps):
    with pytest.raises(ValueError, match="steps"):
        Recalibrate(_batches(), steps=steps)


@pytest.mark.parametrize("ema", [True, False])
def test_plain_batch_normalisation_belongs_to_the_averages_of_weights(ema):
    """In training it sees the weights of the last step, of which its averages are then."""
    layers = [keras.layers.Dense(3), keras.layers.BatchNormalization(momentum=0.5)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    optimizer = keras.optimizers.SGD(0.3, use_ema=ema, ema_momentum=0.9)
    model.compile(optimizer, "mse", jit_compile=False)
    batches = tf.data.Dataset.from_tensors((X, Y)).repeat()
    model.fit(
        batches, steps_per_epoch=4, epochs=2, verbose=0, shuffle=False,
        validation_data=(X, Y), callbacks=[AverageWeights(), Recalibrate(batches, steps=30)],
    )  # fmt: skip
    received, expected = np.asarray(layers[1].moving_mean), layers[0](X).numpy().mean(0)
    assert np.allclose(received, expected, rtol=1e-4, atol=1e-5) == ema
