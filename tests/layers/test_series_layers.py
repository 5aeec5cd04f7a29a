"""Layers for time series: what they compute, and that what is not observed is not seen."""

import keras
import numpy as np
import pytest

from tfnode.layers import BackwardEncoder, Forecaster, GaussianSampling


def _series(batch=3, times=8, observed=5, seed=0):
    """Points of two coordinates, some of which are observed."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(batch, times, 2))
    mask = generator.random((batch, times)).argsort(1).argsort(1) < observed
    return np.concatenate([points, mask[..., None]], axis=-1).astype("f4")


def test_sampling_divergence_has_the_closed_form():
    """KL(N(m, s^2) || N(0, 1)) by the textbook's formula, also for m = 0, s = 1."""
    mean = np.float32([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])
    deviation = np.float32([[0.5, 2.0, 1.0], [1.0, 1.0, 1.0]])
    layer = GaussianSampling()
    layer(np.concatenate([mean, 2 * np.log(deviation)], axis=1))
    (found,) = layer.losses
    expected = -np.log(deviation) + (deviation**2 + mean**2) / 2 - 0.5
    assert float(found) == pytest.approx(expected.sum(axis=1).mean(), rel=1e-6)
    layer(np.zeros((4, 6), "f4"))
    assert float(layer.losses[0]) == pytest.approx(0.0, abs=1e-6)


def test_sampling_draws_in_training_alone():
    x = np.concatenate([np.full((20000, 1), 3.0), np.full((20000, 1), np.log(0.25))], 1)
    layer = GaussianSampling(seed=1)
    np.testing.assert_array_equal(layer(x), x[:, :1].astype("f4"))
    z = np.asarray(layer(x, training=True))
    assert z.mean() == pytest.approx(3.0, abs=0.02)
    assert z.std() == pytest.approx(0.5, abs=0.01)
    assert np.abs(np.asarray(layer(x, training=True)) - z).max() > 0.1
    again = GaussianSampling.from_config(layer.get_config())
    np.testing.assert_array_equal(again(x, training=True), z)


@pytest.mark.parametrize(
    "layer", [BackwardEncoder(7), Forecaster(7)], ids=["encoder", "forecaster"]
)
@pytest.mark.parametrize("value", [5.0, np.nan])
def test_what_is_not_observed_has_no_effect(layer, value):
    x = _series()
    changed = np.where((x[..., 2:] == 0.0) & (np.arange(3) < 2), np.float32(value), x)
    assert not np.array_equal(changed, x)
    np.testing.assert_array_equal(layer(changed), layer(x))


@pytest.mark.parametrize(
    "layer", [BackwardEncoder(7), Forecaster(7)], ids=["encoder", "forecaster"]
)
def test_every_observed_point_and_its_time_have_an_effect(layer):
    x = _series(batch=1)
    before = np.asarray(layer(x))
    for i in range(x.shape[1]):
        changed = x.copy()
        changed[0, i] = (0.0, 0.0, 0.0) if x[0, i, 2] else (1.0, 1.0, 1.0)
        assert np.abs(np.asarray(layer(changed)) - before).max() > 1e-5, i


def test_encoder_is_the_recurrence_from_the_last_to_the_first():
    x = _series(batch=1)
    layer = BackwardEncoder(4)
    found = np.asarray(layer(x))[0]
    kernel, recurrent, bias = layer.get_weights()
    bias = np.arange(4) / 10.0
    layer.set_weights([kernel, recurrent, bias])
    assert np.abs(np.asarray(layer(x))[0] - found).max() > 0.0
    h = np.zeros(4)
    for i in reversed(range(8)):
        if x[0, i, 2]:
            h = np.tanh(np.append(x[0, i], i / 7) @ kernel + h @ recurrent + bias)
    np.testing.assert_allclose(np.asarray(layer(x))[0], h, rtol=1e-5, atol=1e-6)


def test_forecaster_is_the_recurrence_over_observed_points_and_then_its_own():
    x = _series(batch=1)
    layer = Forecaster(4)
    layer(x)
    kernel, recurrent, bias, readout, offset = layer.get_weights()
    bias, offset = np.arange(4) / 10.0, np.array([0.1, -0.2])
    layer.set_weights([kernel, recurrent, bias, readout, offset])
    found = np.asarray(layer(x))[0]
    assert found.shape == (16, 2)

    h, before, last, expected = np.zeros(4), None, None, []
    for i in range(16):
        seen = x[0, i, :2] if i < 8 and x[0, i, 2] else None
        if before is None:
            expected.append(np.zeros(2) if seen is None else seen)
            before, last = seen, i
            continue
        gap = (i - last) / 10.0
        new = np.tanh(np.append(before, gap) @ kernel + h @ recurrent + bias)
        expected.append(new @ readout + offset)
        if seen is not None or i >= 8:
            h, before, last = new, expected[-1] if seen is None else seen, i
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [BackwardEncoder, Forecaster])
def test_unknown_cell(make):
    with pytest.raises(ValueError, match="Received: cell='lstm'"):
        make(5, cell="lstm").build((None, 8, 3))


@pytest.mark.parametrize("make", [BackwardEncoder, Forecaster])
@pytest.mark.parametrize("cell", ["simple", "gru"])
@pytest.mark.few(2)
def test_they_are_saved_and_run_under_xla(make, cell, tmp_path):
    x = _series()
    inputs = keras.Input((8, 3))
    model = keras.Model(inputs, make(5, cell)(inputs))
    assert model.output_shape == (None, *model(x).shape[1:])
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    again.compile(jit_compile=True)
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
