"""`GaussianLikelihood` and `RootMeanSquaredError` against closed forms."""

import keras
import numpy as np
import pytest
from scipy import stats

from tfnode import losses, metrics

GENERATOR = np.random.default_rng(0)
TRUTH, PREDICTION = GENERATOR.normal(size=(2, 4, 6, 2)).astype("f4")
WEIGHTS = (GENERATOR.random((4, 6)) < 0.5).astype("f4")
TARGETS = np.concatenate([TRUTH, WEIGHTS[..., None]], axis=-1)


def test_likelihood():
    expected = -stats.norm.logpdf(TRUTH, PREDICTION, 0.3).sum(axis=-1)
    expected = (WEIGHTS * expected).sum(axis=1)
    loss = losses.GaussianLikelihood(0.3)
    np.testing.assert_allclose(loss.call(TARGETS, PREDICTION), expected, rtol=1e-5)
    assert float(loss(TARGETS, PREDICTION)) == pytest.approx(expected.mean(), rel=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(TARGETS, PREDICTION)) == float(loss(TARGETS, PREDICTION))


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan, np.inf])
def test_bad_noise(noise):
    with pytest.raises(ValueError, match="Received: noise"):
        losses.GaussianLikelihood(noise)


def test_root_mean_squared_error():
    metric = metrics.RootMeanSquaredError()
    for half in (slice(0, 1), slice(1, 4)):
        metric.update_state(TARGETS[half], PREDICTION[half])
    squares = (TRUTH - PREDICTION)[WEIGHTS == 1.0] ** 2
    assert float(metric.result()) == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    assert metric.name == "rmse"


def test_root_mean_squared_error_with_weights_of_samples():
    metric = metrics.RootMeanSquaredError()
    metric.update_state(TARGETS, PREDICTION, np.float32([0.0, 1.0, 0.0, 0.0]))
    squares = (TRUTH - PREDICTION)[1][WEIGHTS[1] == 1.0] ** 2
    assert float(metric.result()) == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)


@pytest.mark.parametrize("shape", [(), (4,), (4, 1), (4, 6), (4, 6, 1)])
def test_root_mean_squared_error_with_weights_like_those_of_keras(shape):
    weights = GENERATOR.random(shape).astype("f4")
    metric = metrics.RootMeanSquaredError()
    metric.update_state(TARGETS, PREDICTION, weights)
    by_point = weights[:, None] if shape == (4,) else weights.reshape(shape[:2])
    total = WEIGHTS * np.broadcast_to(by_point, (4, 6))
    squares = ((TRUTH - PREDICTION) ** 2).mean(axis=-1)
    expected = np.sqrt((total * squares).sum() / total.sum())
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_root_mean_squared_error_refuses_weights_of_coordinates():
    with pytest.raises(ValueError, match="Received: sample_weight of shape"):
        metrics.RootMeanSquaredError().update_state(TARGETS, PREDICTION, np.ones_like(TRUTH))
