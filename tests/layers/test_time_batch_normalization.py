"""`TimeBatchNormalization`: batch statistics, averages by time, and their interpolation."""

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from tfnode import ODEBlock
from tfnode.layers import ConvDynamics, TimeBatchNormalization

RNG = np.random.default_rng(0)
SCALE, SHIFT = np.array([2.0, 0.5, 1.0]), np.array([3.0, -1.0, 0.0])
EPSILON = 1e-5


def batch(*shape):
    return (RNG.normal(size=(*shape, 3)) * SCALE + SHIFT).astype(np.float32)


def statistics(y):
    """Mean and unbiased variance of each channel, in float64."""
    rows = np.asarray(y, np.float64).reshape(-1, 3)
    return rows.mean(0), rows.var(0, ddof=1)


class Reference:
    """The layer's equations in NumPy."""

    def __init__(self, knots=4, times=(0.0, 1.0), momentum=0.9):
        self.knots, self.momentum = np.linspace(*times, knots), momentum
        self.spacing = abs(self.knots[1] - self.knots[0])
        self.span = sorted(times)
        self.mean, self.variance = np.zeros((2, knots, 3))
        self.weight = np.zeros(knots)

    def shares(self, t):
        t = np.clip(t, *self.span)
        return np.maximum(0, 1 - np.abs(t - self.knots) / self.spacing)

    def update(self, t, y):
        rate = (1 - self.momentum) * self.shares(t)
        mean, variance = statistics(y)
        self.mean += rate[:, None] * (mean - self.mean)
        self.variance += rate[:, None] * (variance - self.variance)
        self.weight += rate * (1 - self.weight)

    def normalize(self, t, y):
        share = self.shares(t)
        weight = share @ self.weight
        mean, variance = share @ self.mean / weight, share @ self.variance / weight
        return (y - mean) / np.sqrt(variance + EPSILON)


@pytest.mark.parametrize("shape", [(6,), (4, 3, 2)], ids=["vectors", "images"])
def test_training_is_batch_normalization(shape):
    y, t = tf.constant(batch(*shape)), tf.constant(0.4)
    weights = tf.constant(RNG.normal(size=y.shape), tf.float32)
    gamma, beta = RNG.normal(size=(2, 3))
    results = []
    for norm in (
        TimeBatchNormalization(epsilon=1e-3, renorm=False),
        keras.layers.BatchNormalization(epsilon=1e-3),
    ):
        call = norm if isinstance(norm, keras.layers.BatchNormalization) else None
        norm.build(y.shape) if call else norm.build((), y.shape)
        norm.gamma.assign(gamma)
        norm.beta.assign(beta)
        with tf.GradientTape() as tape:
            tape.watch(y)
            outputs = norm(y, training=True) if call else norm(t, y, training=True)
            loss = tf.reduce_sum(weights * outputs)
        results.append([outputs, *tape.gradient(loss, [y, *norm.trainable_variables])])
    assert len(results[0]) == 4
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_untouched_layer_is_the_identity():
    norm = TimeBatchNormalization()
    y = batch(5)
    outputs = norm(tf.constant(0.3), y, training=False)
    np.testing.assert_allclose(outputs, y / np.sqrt(1 + EPSILON), rtol=1e-6)
    norm.gamma.assign([2.0, 3.0, -1.0])
    norm.beta.assign([0.0, 1.0, 0.5])
    expected = y / np.sqrt(1 + EPSILON) * [2.0, 3.0, -1.0] + [0.0, 1.0, 0.5]
    for training in (False, None):
        outputs = norm(tf.constant(0.3), y, training=training)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for variable in norm.non_trainable_variables:
        np.testing.assert_array_equal(variable, np.zeros(variable.shape))


@pytest.mark.parametrize(
    ("knots", "times", "at"),
    [
        (4, (0.0, 1.0), (0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0)),
        (2, (0.0, 1.0), (0.0, 0.25, 1.0)),
        (3, (1.0, -1.0), (1.0, 0.3, -0.2, -1.0)),
        (5, (2.0, 6.0), (1.0, 2.0, 3.5, 7.0)),
    ],
    ids=["default", "two", "backward", "outside"],
)
def test_averages_and_interpolation(knots, times, at):
    norm = TimeBatchNormalization(momentum=0.9, knots=knots, times=times)
    reference = Reference(knots, times, 0.9)
    norm.build((), (None, 3))
    train = tf.function(lambda t, y: norm(t, y, training=True))
    for _ in range(3):
        for t in at:
            y = batch(8) + np.float32(2 * t)
            train(tf.constant(t, tf.float32), tf.constant(y))
            reference.update(t, y)
    np.testing.assert_allclose(norm.moving_mean, reference.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, reference.variance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.weight[:, 0], reference.weight, rtol=1e-4)
    y = batch(5)
    for t in np.linspace(min(times) - 0.5, max(times) + 0.5, 8):
        outputs = norm(tf.constant(t, tf.float32), y, training=False)
        np.testing.assert_allclose(outputs, reference.normalize(t, y), rtol=1e-3, atol=1e-4)


def test_debiasing_is_exact_after_one_batch():
    """However small the weight, the averages are those of the only batch."""
    norm = TimeBatchNormalization(momentum=0.999)
    y = batch(16)
    norm(tf.constant(0.2), y, training=True)
    mean, variance = statistics(y)
    expected = (y - mean) / np.sqrt(variance + EPSILON)
    assert float(np.max(norm.weight)) < 1e-3
    # Both knots beside 0.2 know this batch alone; so does every time between them.
    for t in (0.0, 0.1, 0.2, 1 / 3, 0.5):
        outputs = norm(tf.constant(t), y, training=False)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    # The last two knots saw nothing.
    outputs = norm(tf.constant(1.0), y, training=False)
    np.testing.assert_allclose(outputs, y, rtol=1e-4)


def test_stage_times_are_kept_apart():
    """At 0, 1/3, 2/3 and 1 each knot has its own batches."""
    norm = TimeBatchNormalization()
    batches = [batch(16) + 10 * k for k in range(4)]
    for k, y in enumerate(batches):
        norm(tf.constant(k / 3, tf.float32), y, training=True)
    for k, y in enumerate(batches):
        mean, variance = statistics(y)
        outputs = norm(tf.constant(k / 3, tf.float32), y, training=False)
        expected = (y - mean) / np.sqrt(variance + EPSILON)
        np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


def test_inference_changes_nothing_and_reset_forgets():
    norm = TimeBatchNormalization()
    y = batch(8)
    norm(tf.constant(0.0), y, training=True)
    before = norm.get_weights()
    norm(tf.constant(0.0), y + 5, training=False)
    for a, b in zip(norm.get_weights(), before):
        np.testing.assert_array_equal(a, b)
    assert np.abs(norm.moving_mean).max() > 0
    norm.reset_averages()
    for variable in (norm.moving_mean, norm.moving_variance, norm.weight):
        np.testing.assert_array_equal(variable, np.zeros(variable.shape))
    outputs = norm(tf.constant(0.0), y, training=False)
    np.testing.assert_allclose(outputs, y, rtol=1e-4)


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_in_a_solve_the_forward_stages_alone_count(gradient):
    """One step of the 3/8 rule: each knot gets one batch, also under the adjoint."""
    norm = TimeBatchNormalization(momentum=0.9)
    block = ODEBlock(norm, "rk38", gradient)
    x = tf.constant(batch(8))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(block(x, training=True) ** 2)
        return tape.gradient(loss, norm.trainable_variables)

    block.build(x.shape)
    gradients = step()
    assert all(np.abs(g).max() > 0 for g in gradients)
    np.testing.assert_allclose(norm.weight, np.full((4, 1), 0.1), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_mean[0], 0.1 * statistics(x)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    """Half-precision state, averages in float32."""
    keras.config.set_dtype_policy(policy)
    half = tf.bfloat16 if policy == "mixed_bfloat16" else tf.float16
    norm = TimeBatchNormalization(momentum=0.9)
    y = tf.cast(batch(64), half)
    outputs = norm(tf.constant(0.0), y, training=True)
    assert outputs.dtype == half
    assert all(w.dtype == "float32" for w in norm.weights)
    wide = tf.cast(y, tf.float64).numpy()
    mean, variance = statistics(wide)
    np.testing.assert_allclose(norm.moving_mean[0], 0.1 * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance[0], 0.1 * variance, rtol=1e-4)
    expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + EPSILON)
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), expected, atol=0.03)
    inference = norm(tf.constant(0.0), y, training=False)
    assert inference.dtype == half
    expected = (wide - mean) / np.sqrt(variance + EPSILON)
    np.testing.assert_allclose(tf.cast(inference, tf.float64), expected, atol=0.05)


def test_times_in_mixed_precision_stay_at_their_knots():
    """In bfloat16, a third is 0.334: a share of the batch would leak to the next knot."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    norm = TimeBatchNormalization(momentum=0.9)
    norm(tf.constant(1 / 3), tf.cast(batch(8), tf.bfloat16), training=True)
    np.testing.assert_allclose(norm.weight[:, 0], [0, 0.1, 0, 0], atol=1e-6)


def test_float64():
    norm = TimeBatchNormalization(dtype="float64")
    y = batch(16).astype(np.float64)
    outputs = norm(tf.constant(0.0, tf.float64), y, training=True)
    assert outputs.dtype == tf.float64
    expected = (y - y.mean(0)) / np.sqrt(y.var(0) + EPSILON)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_function_and_xla(jit_compile):
    y, t = tf.constant(batch(4, 2)), tf.constant(0.4)
    eager, graph = TimeBatchNormalization(), TimeBatchNormalization()
    graph.build((), y.shape)
    function = tf.function(lambda training: graph(t, y, training=training), jit_compile=jit_compile)
    for training in (True, False):
        expected = eager(t, y, training=training)
        np.testing.assert_allclose(function(training), expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(graph.get_weights(), eager.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_save_and_load(tmp_path):
    norm = TimeBatchNormalization(0.8, 1e-4, knots=3, times=(0.0, 2.0), name="norm")
    model = keras.Sequential([keras.Input((3,)), ODEBlock(norm, "euler", times=(0.0, 2.0))])
    x = batch(8)
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.layers[-1].dynamics.get_config() == norm.get_config()
    assert norm.get_config()["momentum"] == 0.8
    assert norm.get_config()["knots"] == 3
    assert float(np.abs(norm.moving_mean).max()) > 0
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"knots": 1},
        {"knots": 2.0},
        {"knots": True},
        {"times": (0.0,)},
        {"times": (1.0, 1.0)},
        {"times": (0.0, 0.5, 1.0)},
    ],
    ids=str,
)
def test_bad_options(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
        TimeBatchNormalization(**options)


@pytest.mark.few(3)
@pytest.mark.parametrize("solver", ["rk38", "rk4", "midpoint"])
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
def test_training_is_inference_by_the_averages_before_the_solve(gradient, solver):
    """Every batch of training has the solution that `predict` had for it before."""
    norm = TimeBatchNormalization(momentum=0.5, dtype="float64")
    block = ODEBlock(norm, solver, gradient, dtype="float64")
    block.build((None, 3))
    norm.gamma.assign([0.5, 0.2, 0.8])

    @tf.function
    def train(x):
        return block(x, training=True)

    differences = []
    for _ in range(12):
        x = tf.constant(batch(128), tf.float64)
        expected = block(x, training=False).numpy()
        differences.append(np.abs(train(x) - expected).max())
    # Until the averages are known, it is batch normalisation.
    assert max(differences[:2]) > 0.1
    assert max(differences[5:]) < 1e-10


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.few(1)
def test_gradients_through_renormalised_batches(gradient):
    """Against the equations of the layer and one step of the 3/8 rule, unrolled."""
    norm = TimeBatchNormalization(momentum=0.5, dtype="float64")
    block = ODEBlock(norm, "rk38", gradient, dtype="float64")
    for _ in range(3):
        block(batch(16), training=True)
    averages = [tf.constant(v.numpy()) for v in (norm.moving_mean, norm.moving_variance)]
    weight = tf.constant(norm.weight.numpy())
    x, w = tf.constant(batch(16), tf.float64), tf.constant(batch(16), tf.float64)

    def field(stage, y):
        mean, variance = tf.nn.moments(y, [0])
        deviation = tf.sqrt(variance + EPSILON)
        running_mean, running = (a[stage] / weight[stage] for a in averages)
        running = tf.sqrt(running + EPSILON)
        scale = tf.stop_gradient(deviation / running)
        shift = tf.stop_gradient((mean - running_mean) / running)
        return norm.gamma * ((y - mean) / deviation * scale + shift) + norm.beta

    def unrolled(y):
        k1 = field(0, y)
        k2 = field(1, y + k1 / 3)
        k3 = field(2, y + k2 - k1 / 3)
        k4 = field(3, y + k1 - k2 + k3)
        return y + (k1 + 3 * k2 + 3 * k3 + k4) / 8

    results = []
    for solve in (unrolled, lambda y: block(y, training=True)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = solve(x)
            loss = tf.reduce_sum(w * y)
        results.append([y, *tape.gradient(loss, [x, *norm.trainable_variables])])
    # The adjoint solves backward by one step, too.
    tolerance = {"rtol": 0.3, "atol": 5.0} if gradient == "adjoint" else {"rtol": 1e-9}
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-10)
    for a, b in zip(*(r[1:] for r in results)):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "solver", "behind"),
    [("batch", "rk38", 0.02), ("batch", "rk4", 0.02), ("group", "rk4", 0.08)],
)
def test_fit_alone_is_right(norm, solver, behind):
    """Beside the residual block `y + f(y)` with Keras's own batch normalisation, on digits."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    split = slice(None, -450), slice(-450, None)

    def accuracies(body):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 1))
        stem = [keras.layers.Conv2D(32, 3), keras.layers.BatchNormalization(momentum=0.9)]
        y = keras.Sequential([*stem, keras.layers.ReLU()])(inputs)
        y = keras.layers.GlobalAveragePooling2D()(body(y))
        model = keras.Model(inputs, keras.layers.Dense(10)(y))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
        history = model.fit(images[split[0]], labels[split[0]], 64, epochs=15, verbose=0).history
        scores = [model.evaluate(images[s], labels[s], verbose=0)[1] for s in split]
        return history["accuracy"][-1], *scores

    def residual(y):
        z = y
        for _ in range(2):
            z = keras.layers.Conv2D(32, 3, padding="same", use_bias=False)(z)
            z = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.ReLU()(z))
        return y + z

    *_, wanted = accuracies(residual)
    training, again, held_out = accuracies(ODEBlock(ConvDynamics(32, norm=norm), solver))
    assert training > 0.98
    assert again > training - behind / 2
    assert held_out > wanted - behind
