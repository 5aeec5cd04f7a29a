"""`latent_ode` and `rnn_forecaster`: trained by `fit`, saved, loaded, and what they compute."""

import keras
import numpy as np
import pytest

from tfnode import data, losses, metrics, models
from tfnode.data import spirals

pytestmark = pytest.mark.few(2)

SMALL = {"hidden_units": 8, "rnn_units": 6, "tol": 1e-2}


@pytest.fixture(scope="module")
def dataset():
    return data.load("spirals", points=30)


def _compiled(model, jit_compile=False):
    model.compile(
        keras.optimizers.Adam(1e-2),
        losses.GaussianLikelihood(0.3),
        weighted_metrics=[metrics.RootMeanSquaredError()],
        jit_compile=jit_compile,
    )
    return model


def test_parameters():
    """Those of the published sizes, added up by hand."""
    encoder, distribution = (4 + 25 + 1) * 25, (25 + 1) * 8  # Without the gates of a GRU.
    dynamics, decoder = 5 * 20 + 21 * 20 + 21 * 4, 5 * 20 + 21 * 2
    expected = encoder + distribution + dynamics + decoder
    # Two numbers of the generator of noise are no parameters.
    assert (
        sum(
            np.prod(w.shape)
            for w in models.latent_ode(
                latent_units=4, cell="simple", decoder_units=20
            ).trainable_weights
        )
        == expected
    )
    assert models.rnn_forecaster().count_params() == (3 + 25 + 1) * 25 + 26 * 2


@pytest.mark.parametrize("make", [models.latent_ode, models.rnn_forecaster])
def test_fit_save_load(make, dataset, tmp_path):
    model = _compiled(make(**(SMALL if make is models.latent_ode else {"units": 6})))
    x, y = dataset.x_train[:64], dataset.y_train[:64]
    history = model.fit(x, y, batch_size=32, epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert model.output_shape == (None, 200, 2)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4)
    found = again.evaluate(x, y, verbose=0, return_dict=True)
    squares = ((expected - y[..., :2])[y[..., 2] == 1.0]) ** 2
    assert found["rmse"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-4)


def test_loss_is_the_negative_evidence_lower_bound(dataset):
    """For the mean of the posterior: the likelihood and the divergence, by their formulas."""
    model = _compiled(models.latent_ode(**SMALL))
    x, y = dataset.x_train[:16], dataset.y_train[:16]
    distribution = keras.Model(model.input, model.get_layer("distribution").output)
    mean, log_variance = np.split(distribution.predict(x, verbose=0), 2, axis=1)
    divergence = (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1) / 2
    squares = ((model.predict(x, verbose=0) - y[..., :2]) ** 2).sum(-1) / (2 * 0.3**2)
    likelihood = (y[..., 2] * (squares + np.log(2 * np.pi * 0.3**2))).sum(1)
    found = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx((likelihood + divergence).mean(), rel=1e-4)


@pytest.mark.slow
def test_the_ode_can_be_solved_at_other_times_and_backward(dataset):
    model = models.latent_ode(**SMALL)
    x = dataset.x_test[:4]
    start = keras.Model(model.input, model.get_layer("initial_state").output)(x)
    step, ode = spirals.TIME_STEP, model.get_layer("ode")
    assert ode.times[1] == pytest.approx(step, rel=1e-3)
    ahead = ode(start, times=[0.0, 50 * ode.times[1]])
    expected = model.predict(x, verbose=0)
    decode = model.get_layer("decoder")
    np.testing.assert_allclose(decode(ahead)[:, 0], expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(decode(ahead)[:, 1], expected[:, 50], atol=0.05)
    back = ode(ahead[:, 1], times=[50 * ode.times[1], 0.0])[:, 1]
    np.testing.assert_allclose(back, start, atol=0.05)
