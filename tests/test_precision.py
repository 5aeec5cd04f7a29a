"""Half precision: what stays in float32, and what float16's small range does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfnode import ODEBlock, gradients, layers, models, odeint, solvers

pytestmark = pytest.mark.few(2)

HALVES = ["mixed_bfloat16", "mixed_float16"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype(np.float32)
Y = (X[:, :1] ** 2).astype(np.float32)
# Of a batch normalisation: scale, shift, mean, variance.
WEIGHTS = [[1.0, 2.0, 0.5], [0.0, 1.0, -1.0], [0.1, 0.2, 0.3], [1.5, 1.0, 2.0]]


def _losses(model, epochs):
    """Trains on the one batch, ten steps an epoch."""
    batches = [np.tile(x, (10, 1)) for x in (X, Y)]
    fitted = model.fit(*batches, batch_size=len(X), epochs=epochs, shuffle=False, verbose=0)
    return fitted.history["loss"]


class Watched(solvers.RK38):
    """Notes the dtypes of all that a solve reads and makes, solve by solve."""

    def __init__(self):
        super().__init__()
        self.solves = []

    def integrate(self, field, y0, times, quadratures=(), **arguments):
        seen = {"evaluations": 0, "times": {times.dtype}, "states": set(), "sums": set()}
        self.solves.append(seen)

        def watched(t, y):
            dy, dq = field(t, y)
            seen["evaluations"] += 1
            seen["times"].add(t.dtype)
            seen["states"].update(x.dtype for x in (*y, *dy))
            seen["sums"].update(x.dtype for x in dq)
            return dy, dq

        result = super().integrate(watched, y0, times, quadratures, **arguments)
        seen["states"].update(x.dtype for x in (*y0, *result.states))
        seen["sums"].update(x.dtype for x in (*quadratures, *result.quadratures))
        return result


@pytest.mark.parametrize("policy", HALVES)
@pytest.mark.few(1)
def test_solver_computes_in_float32_both_ways(policy):
    keras.config.set_dtype_policy(policy)
    half = tf.as_dtype(policy.removeprefix("mixed_"))
    inside = []

    class Dynamics(layers.ConvDynamics):
        def call(self, t, y, training=None):
            dy = super().call(t, y, training=training)
            if not isinstance(y, keras.KerasTensor):
                inside.append((t.dtype, y.dtype, dy.dtype))
            return dy

    solver = Watched()
    block = ODEBlock(Dynamics(4), solver, "adjoint")
    images = RNG.normal(size=(2, 5, 5, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        outputs = block(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    gradient = tape.gradient(loss, block.trainable_variables)
    assert outputs.dtype == half
    assert {g.dtype for g in gradient} == {tf.float32}
    assert set(inside) == {(tf.float32, half, half)}
    forward, backward = solver.solves
    for solve in (forward, backward):
        assert solve["evaluations"] == 4
        # Wider where they were given so, for their differences.
        assert solve["times"] <= {tf.float32, tf.float64}
        assert solve["states"] == {tf.float32}
    assert forward["sums"] == set()
    assert backward["sums"] == {tf.float32}


@pytest.mark.parametrize("policy", HALVES)
@pytest.mark.parametrize("model", ["odenet", "resnet18"])
@pytest.mark.few(1)
def test_models_in_half_precision_are_those_of_float32(policy, model):
    """Logits in training, and their gradient: as close as the type is fine."""
    images = RNG.normal(size=(8, 28, 28, 1)).astype(np.float32)
    labels = np.arange(8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"filters": 8} if model == "odenet" else {}
    results = []
    for name in ("float32", policy):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(name)
        network = getattr(models, model)(**options)
        with tf.GradientTape() as tape:
            logits = network(images, training=True)
            value = loss(labels, logits)
        assert logits.dtype == tf.float32
        assert {w.dtype for w in network.trainable_variables} == {"float32"}
        gradient = tape.gradient(value, network.trainable_variables)
        results.append((logits.numpy(), np.concatenate([np.ravel(g) for g in gradient])))
    (logits, gradient), (half_logits, half_gradient) = results
    tolerance = 0.1 if policy == "mixed_bfloat16" else 0.02
    np.testing.assert_allclose(half_logits, logits, atol=tolerance * np.abs(logits).max())
    cosine = gradient @ half_gradient
    cosine /= np.linalg.norm(gradient) * np.linalg.norm(half_gradient)
    assert cosine > 1 - tolerance


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["graph", "XLA"]
)
def test_float16_finds_its_loss_scale(jit_compile):
    """From one that is too large: gradients overflow, which is no failure of the solver."""
    keras.config.set_dtype_policy("mixed_float16")
    block = ODEBlock(layers.DenseDynamics(8), solver="dopri5")
    model = keras.Sequential([keras.Input((3,)), block, keras.layers.Dense(1, dtype="float32")])
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=jit_compile)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.optimizer.initial_scale = 2.0**40
    losses = _losses(model, epochs=6)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] / 2
    assert 1.0 < float(model.optimizer.dynamic_scale.numpy()) < 2.0**40


@pytest.mark.parametrize("scale", [2.0**-20, 1.0, 2.0**10])
def test_float16_adjoint_does_not_depend_on_the_loss_scale(scale):
    """In the backward solve float16 would lose small values and overflow with large ones."""
    results = []
    for policy, factor in (("float32", 1.0), ("mixed_float16", scale)):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        block = ODEBlock(layers.DenseDynamics(8), solver="rk4")
        with tf.GradientTape() as tape:
            loss = factor * tf.reduce_sum(tf.cast(block(X, training=True), tf.float32))
        gradient = tape.gradient(loss, block.trainable_variables)
        results.append([g.numpy() / factor for g in gradient])
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, atol=5e-3 * np.abs(a).max())


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
def test_float16_sums_over_a_large_batch(gradient):
    """Of 4096 products of 50, which have a mean that float16 can hold, and a sum that it cannot."""
    y0 = tf.fill([4096, 1], tf.constant(50.0, tf.float16))
    w = tf.Variable(tf.zeros([1, 1], tf.float16))
    with tf.GradientTape() as tape:
        y = odeint(lambda t, y: y @ w, y0, [0.0, 1.0], solver="rk4", gradient=gradient)[-1]
        loss = tf.reduce_mean(tf.cast(y, tf.float32))
    np.testing.assert_allclose(tape.gradient(loss, w), [[50.0]], rtol=1e-2)


@pytest.mark.few(1)
@pytest.mark.parametrize("solver", ["dopri5", "rk4"])
def test_float16_dynamics_in_a_block_of_float32_find_their_loss_scale(solver):
    block = ODEBlock(keras.layers.Dense(3, dtype="mixed_float16"), solver=solver)
    model = keras.Sequential([keras.Input((3,)), block, keras.layers.Dense(1)])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2), 2.0**30)
    model.compile(optimizer, "mse", jit_compile=False)
    losses = _losses(model, epochs=4)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_solution_beyond_float16(solver):
    y0 = tf.zeros([1], tf.float16)

    def solve():
        return odeint(lambda t, y: 6e4 * tf.ones_like(y), y0, [0.0, 2.0], solver=solver)

    with pytest.raises(tf.errors.InvalidArgumentError, match="too large for the dtype"):
        solve()
    assert np.isnan(tf.function(solve, jit_compile=True)()).all()


def test_failed_backward_solve_under_xla_gives_no_gradient():
    """NaN in the parameters' gradients too, rather than what was summed up to the failure."""
    w = tf.Variable([1.0, 2.0])
    adjoint = gradients.Adjoint(solvers.Dopri5(rtol=1e-9, atol=1e-9, max_steps=2))

    @tf.function(jit_compile=True)
    def differentiate():
        with tf.GradientTape() as tape:
            y = odeint(lambda t, y: -w * y, tf.ones([2]), [0.0, 1.0], gradient=adjoint)[-1]
            loss = tf.reduce_sum(y)
        return loss, tape.gradient(loss, w)

    loss, result = differentiate()
    assert np.isfinite(loss)
    assert np.isnan(result).all()


@pytest.mark.parametrize("policy", ["float32", *HALVES])
@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_normalization_is_that_of_keras(policy, training):
    """Outputs, gradients and running averages."""
    x = (3.0 + 2.0 * RNG.normal(size=(6, 5, 4, 3))).astype(np.float32)
    weights = RNG.normal(size=x.shape).astype(np.float32)
    results = []
    for make, name in (
        (keras.layers.BatchNormalization, "float32"),
        (layers.FusedBatchNormalization, policy),
    ):
        norm = make(momentum=0.9, epsilon=1e-5, dtype=name)
        norm.build(x.shape)
        norm.set_weights(np.float32(WEIGHTS))
        y = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(y)
            outputs = norm(y, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
        assert outputs.dtype == norm.compute_dtype
        found = [outputs, *tape.gradient(loss, [y, *norm.trainable_variables])]
        results.append([np.asarray(tf.cast(r, tf.float32)) for r in (*found, *norm.weights)])
    tolerance = {"float32": 1e-5, "mixed_float16": 5e-3, "mixed_bfloat16": 3e-2}[policy]
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, atol=tolerance * np.abs(a).max(), rtol=tolerance)


def test_fused_batch_normalization_elsewhere_goes_the_way_of_keras():
    for shape, arguments in (
        ((4, 3), {}),
        ((2, 3, 4, 5), {"axis": 1}),
        ((2, 3, 4, 5), {"center": False}),
        ((2, 3, 4, 5), {"dtype": "float64"}),
    ):
        x = RNG.normal(size=shape)
        results = [
            make(**arguments)(x, training=True)
            for make in (keras.layers.BatchNormalization, layers.FusedBatchNormalization)
        ]
        np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-6)


def test_fused_batch_normalization_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.FusedBatchNormalization()])
    x = RNG.normal(size=(8, 4, 4, 2)).astype(np.float32)
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
