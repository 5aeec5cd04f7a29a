"""`cnf`: a density whose likelihood, samples and training are those of closed forms."""

import keras
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import tensorflow as tf
from problems import MATRIX

from tfnode import solvers
from tfnode.layers import DenseDynamics, FlowBlock
from tfnode.models import NormalizingFlow, cnf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 2)).astype(np.float32)


@keras.saving.register_keras_serializable("test_cnf")
def linear(t, y):
    return y @ tf.constant(MATRIX.T, y.dtype)


@pytest.fixture(scope="module")
def gaussian():
    """The model of linear dynamics, and what its density is."""
    flow = FlowBlock(linear, solvers.Dopri5(rtol=1e-9, atol=1e-9), dtype="float64")
    model = NormalizingFlow((3,), flow, dtype="float64")
    backward = scipy.linalg.expm(-MATRIX)
    return model, scipy.stats.multivariate_normal(np.zeros(3), backward @ backward.T)


def test_log_prob_of_linear_dynamics(gaussian):
    model, expected = gaussian
    x = RNG.normal(size=(5, 3))
    log_prob = model.log_prob(x)
    assert log_prob.dtype == tf.float64
    np.testing.assert_allclose(log_prob, expected.logpdf(x), rtol=1e-7)


def test_samples_of_linear_dynamics(gaussian):
    model, expected = gaussian
    samples = model.sample(20000, seed=1)
    # The squared distance of Mahalanobis has a chi-squared distribution, of deviation
    # sqrt(6); elements of the covariance have one of about sqrt(2 / n).
    squares = np.sum((samples @ np.linalg.cholesky(np.linalg.inv(expected.cov))) ** 2, axis=1)
    assert abs(squares.mean() - 3.0) < 4 * np.sqrt(6 / 20000)
    np.testing.assert_allclose(np.cov(samples.numpy().T), expected.cov, atol=0.1)
    np.testing.assert_array_equal(model.sample(20000, seed=1), samples)
    assert np.abs(model.sample(20000) - samples).max() > 0.1


@pytest.fixture(scope="module")
def curved():
    """A model of random weights, in float64."""
    flow = FlowBlock(
        DenseDynamics([4], dtype="float64"), solvers.Dopri5(1e-7, 1e-7), dtype="float64"
    )
    model = NormalizingFlow((2,), flow, dtype="float64")
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(4).normal(size=variable.shape))
    return model


def test_the_density_integrates_to_one(curved):
    line, step = np.linspace(-12.0, 12.0, 121, retstep=True)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    density = np.exp(curved.log_prob(grid))
    assert density.max() > 1.1 / (2 * np.pi)  # It is not that of the normal one.
    np.testing.assert_allclose(density.sum() * step**2, 1.0, rtol=1e-4)


def test_samples_and_back(curved):
    z = RNG.normal(size=(7, 2))
    x = curved.from_normal(z)
    assert np.abs(x - z).max() > 0.5
    back, log_det = curved.flow(x)
    np.testing.assert_allclose(back, z, atol=1e-6)
    expected = scipy.stats.norm.logpdf(z).sum(1) + log_det
    np.testing.assert_allclose(curved.log_prob(x), expected, rtol=1e-6)


def test_distribution(curved):
    distribution = curved.distribution()
    assert (distribution.event_shape, distribution.batch_shape) == ((2,), ())
    samples = distribution.sample([3, 4], seed=(1, 2))
    assert samples.shape == (3, 4, 2)
    np.testing.assert_array_equal(distribution.sample([3, 4], seed=(1, 2)), samples)
    log_prob = distribution.log_prob(samples)
    expected = np.reshape(curved.log_prob(np.reshape(samples, (-1, 2))), (3, 4))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)
    np.testing.assert_allclose(distribution.prob(samples[0, 0]), np.exp(log_prob[0, 0]))


def test_gradients_reach_samples_and_likelihood(curved):
    variable = curved.trainable_variables[0]
    with tf.GradientTape() as tape:
        values = [curved.log_prob(X)[0], curved.sample(3, seed=1)[0, 0]]
        total = values[0] + values[1]
    gradient = tape.gradient(total, variable)
    at, direction, ends = variable.numpy(), RNG.normal(size=variable.shape), []
    for sign in (1, -1):
        variable.assign(at + sign * 1e-4 * direction)
        ends.append(curved.log_prob(X)[0] + curved.sample(3, seed=1)[0, 0])
    variable.assign(at)
    np.testing.assert_allclose(np.sum(gradient * direction), (ends[0] - ends[1]) / 2e-4, rtol=1e-3)


def small(**kwargs):
    """A model that is quick to trace."""
    flow = FlowBlock(DenseDynamics([8]), solvers.RK4(num_steps=1), "backprop", **kwargs)
    return NormalizingFlow((2,), flow)


def test_training_and_saving(tmp_path):
    model = small(regularizers={"kineticenergy": 0.1, "jacobianfrobenius": 0.1})
    x = 0.3 * X + 1.0
    model.compile(keras.optimizers.Adam(0.03), jit_compile=False)
    batches = tf.data.Dataset.from_tensors(x).repeat(10)
    history = model.fit(batches, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0] - 0.5
    loss = -np.mean(model.predict(x, verbose=0))
    # In training the regularisers are part of the loss.
    assert 0.01 < model.train_on_batch(x) - loss < 1.0

    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.log_prob(x), model.log_prob(x))
    np.testing.assert_array_equal(again.sample(5, seed=2), model.sample(5, seed=2))


def test_sample_weights():
    model = small()
    model.compile(jit_compile=False)
    weights = np.arange(32.0)
    loss = model.evaluate(X, X, sample_weight=weights, verbose=0)
    log_prob = model.predict(X, verbose=0)
    np.testing.assert_allclose(loss, -np.mean(weights * log_prob), rtol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 3), (3, 4, 2), ()])
@pytest.mark.few(2)
def test_samples_of_another_shape_are_refused(shape):
    model = small()
    before = model.log_prob(X)
    for function in (model.log_prob, model.from_normal):
        with pytest.raises(ValueError, match=r"shape \(None, 2\)\. Received"):
            function(np.zeros(shape, "float32"))
    with pytest.raises(ValueError, match="shape"):
        model(np.zeros(shape, "float32"))
    np.testing.assert_array_equal(model.log_prob(X), before)
    np.testing.assert_allclose(model.log_prob(X[:1]), before[:1], rtol=1e-5)


@pytest.mark.parametrize("n", [-1, (2, 3), 1.5, None])
def test_numbers_of_samples_that_are_none(n):
    with pytest.raises(ValueError, match="Received: n="):
        small().sample(n)


def test_a_loss_is_refused():
    model = small()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="has a loss already.*Received"):
        model.fit(X, X, verbose=0)


def test_function_and_xla_agree_with_eager():
    model = small(trace="hutchinson", regularizers={"jacobianfrobenius": 0.1})

    def run():
        model.flow.seed_generator.state.assign([5, 0])
        with tf.GradientTape() as tape:
            log_prob = model(X, training=True)
            loss = -tf.reduce_mean(log_prob) + model.losses[-1]
        return [log_prob, *tape.gradient(loss, model.trainable_variables)]

    eager = run()
    for jit_compile in (False, True):
        for a, b in zip(tf.function(run, jit_compile=jit_compile)(), eager):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_arguments_of_cnf():
    terms = {"kineticenergy": 0.2}
    model = cnf((3,), hidden_units=(4, 5), tol=1e-4, trace="exact", regularizers=terms)
    assert [w.shape for w in model.trainable_variables][::2] == [(4, 4), (5, 5), (6, 3)]
    flow = model.flow
    assert (flow.solver.rtol, flow.solver.atol, flow.trace) == (1e-4, 1e-4, "exact")
    assert flow.regularizers[0].weight == 0.2
    assert model.count_params() == 16 + 4 + 25 + 5 + 18 + 3
    with pytest.raises(ValueError, match="FlowBlock.*Received"):
        NormalizingFlow((2,), keras.layers.Dense(2))
    for shape in (2, (), (0,), (None, 2)):
        with pytest.raises(ValueError, match="input_shape.*Received"):
            cnf(shape)
    with pytest.raises(ValueError, match="n=-1"):
        model.sample(-1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_samples(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = cnf((2,), hidden_units=(4,), tol=1e-2)
    finally:
        keras.config.set_dtype_policy("float32")
    samples = model.sample(3, seed=0)
    assert samples.dtype.name == policy.removeprefix("mixed_")
    assert np.isfinite(model.log_prob(tf.cast(samples, tf.float64))).all()
