"""`ODEBlock` as a Keras layer: shapes, saving, training and the modes of execution."""

import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode import ODEBlock, solvers
from tfnode.layers import ConvDynamics, DenseDynamics

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "backprop"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 2)).astype(np.float32)
Y = RNG.normal(size=(8, 1)).astype(np.float32)


@keras.saving.register_keras_serializable("tests")
def decay(t, y):
    return tf.nest.map_structure(tf.negative, y)


def mlp(units=4, dtype=None):
    return keras.Sequential(
        [keras.layers.Dense(units, "tanh", dtype=dtype), keras.layers.Dense(2, dtype=dtype)]
    )


def python(script, *arguments):
    """Runs a script in a new process; its last line is JSON."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


# Shapes and calls


def test_output_is_the_last_state():
    block = ODEBlock(decay, solvers.RK4(num_steps=10))
    np.testing.assert_allclose(block(X), np.exp(-1) * X, rtol=1e-5)
    assert block.compute_output_shape((None, 2)) == (None, 2)
    assert block(keras.KerasTensor((None, 2))).shape == (None, 2)


def test_sequences():
    times = (0.0, 0.25, 0.5, 1.0)
    block = ODEBlock(decay, solvers.RK4(num_steps=10), times=times, return_sequences=True)
    outputs = block(X)
    assert outputs.shape == (8, 4, 2)
    expected = np.stack([np.exp(-t) * X for t in times], 1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    np.testing.assert_array_equal(outputs[:, 0], X)
    assert block.compute_output_shape((None, 2)) == (None, 4, 2)
    assert block(keras.KerasTensor((None, 2))).shape == (None, 4, 2)
    last = ODEBlock(decay, solvers.RK4(num_steps=10), times=times)(X)
    np.testing.assert_array_equal(outputs[:, -1], last)


def test_images_in_sequences():
    block = ODEBlock(decay, times=(0.0, 1.0, 2.0), return_sequences=True)
    assert block(np.ones((2, 3, 4, 1), np.float32)).shape == (2, 3, 3, 4, 1)
    assert block.compute_output_shape((2, 3, 4, 1)) == (2, 3, 3, 4, 1)


def test_times_of_a_call():
    block = ODEBlock(decay, solvers.RK4(num_steps=10), return_sequences=True)
    times = np.array([0.0, 0.5, 1.0, 1.5], np.float32)
    expected = np.stack([np.exp(-t) * X for t in times], 1)
    np.testing.assert_allclose(block(X, times=tf.constant(times)), expected, rtol=1e-4)
    np.testing.assert_allclose(block(X)[:, -1], np.exp(-1) * X, rtol=1e-5)
    inputs, at = keras.Input((2,)), keras.Input(batch_shape=(4,))
    model = keras.Model([inputs, at], block(inputs, times=at))
    assert model.output_shape == (None, 4, 2)
    np.testing.assert_allclose(model([X, times]), expected, rtol=1e-4)


def test_nested_state():
    block = ODEBlock(decay, solvers.RK4(num_steps=10))
    outputs = block({"a": X, "b": X[:, :1]})
    np.testing.assert_allclose(outputs["a"], np.exp(-1) * X, rtol=1e-5)
    np.testing.assert_allclose(outputs["b"], np.exp(-1) * X[:, :1], rtol=1e-5)


def test_backward_in_time():
    block = ODEBlock(decay, solvers.RK4(num_steps=10), times=(1.0, 0.0))
    np.testing.assert_allclose(block(X), np.exp(1) * X, rtol=1e-5)


@pytest.mark.parametrize(
    "times", [(), (0.0,), (0.0, 0.0), (0.0, 2.0, 1.0), (0.0, float("nan"))], ids=str
)
def test_bad_times(times):
    with pytest.raises(ValueError, match="`times` must be.*Received"):
        ODEBlock(decay, times=times)


@pytest.mark.parametrize(
    "options", [{"dynamics": 3}, {"solver": "rk5"}, {"gradient": "adjiont"}, {"solver": None}]
)
def test_bad_options(options):
    with pytest.raises(ValueError, match="Received"):
        ODEBlock(**{"dynamics": decay, **options})


@pytest.mark.parametrize("shape", [(None, 3), (None, 2, 2)])
def test_dynamics_that_change_the_shape(shape):
    layer = keras.layers.Dense(3) if len(shape) == 2 else keras.layers.Flatten()
    block = ODEBlock(keras.Sequential([layer]))
    with pytest.raises(ValueError, match="shape of the state.*Received"):
        block.build((None, 2, *shape[2:]))


def test_activity_regularizer_in_the_dynamics():
    layers = [keras.layers.Dense(3, activity_regularizer="l2"), keras.layers.Dense(2)]
    with pytest.raises(ValueError, match="activity regularizer.*Received"):
        ODEBlock(keras.Sequential(layers))(X)


# Configs and saving


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: keras.Sequential([mlp(), keras.Sequential([keras.layers.Dense(2)])]), (2,)),
        (lambda: ConvDynamics(2, (3, 1), norm="group"), (4, 3, 2)),
        (lambda: DenseDynamics([3, 4], "relu"), (2,)),
        (lambda: decay, (2,)),
    ],
    ids=["nested", "conv", "dense", "function"],
)
def test_config_round_trip(make, shape):
    block = ODEBlock(
        make(),
        solvers.RK38(step_size=0.3),
        "backprop",
        times=(0.0, 0.5, 1.5),
        return_sequences=True,
        name="flow",
    )
    config = json.loads(json.dumps(block.get_config()))
    again = ODEBlock.from_config(config)
    assert again.get_config() == block.get_config()
    assert (again.times, again.return_sequences, again.name) == ((0.0, 0.5, 1.5), True, "flow")
    assert type(again.solver) is solvers.RK38
    assert again.solver.step_size == 0.3
    assert type(again.gradient) is tfnode.gradients.Backprop
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    expected = block(x)
    again(x)
    again.set_weights(block.get_weights())
    np.testing.assert_array_equal(again(x), expected)


LOAD = """
import json, sys
import tfnode
early = [name for name in ("tensorflow_probability", "tf_keras") if name in sys.modules]
import keras
import numpy as np
keras.config.disable_traceback_filtering()
data = np.load(sys.argv[1] + "/data.npz")
model = keras.models.load_model(sys.argv[1] + "/model.keras")
outputs = np.asarray(model(data["x"], training=False))
predicted = model.predict(data["x"], verbose=0)
weights = [data[f"weight_{i}"] for i in range(len(model.weights))]
equal = {
    "weights": all(np.array_equal(*pair) for pair in zip(model.get_weights(), weights)),
    "outputs": np.array_equal(outputs, data["outputs"]),
    "predicted": np.array_equal(predicted, data["predicted"]),
}
print(json.dumps({"early": early, "equal": equal}))
"""

EXPORTED = """
import json, sys
sys.modules["tfnode"] = None
sys.modules["keras"] = None
import numpy as np
import tensorflow as tf
data = np.load(sys.argv[1] + "/data.npz")
loaded = tf.saved_model.load(sys.argv[1] + "/model")
outputs = loaded.serve(data["x"]).numpy()
print(json.dumps(float(np.abs(outputs - data["outputs"]).max())))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model, saved and exported."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(1)
    dynamics = ConvDynamics(2, norm="group")
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            ODEBlock(dynamics, solvers.Heun(num_steps=3), times=(0.0, 0.5, 1.0)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    x = RNG.normal(size=(4, 5, 5, 2)).astype(np.float32)
    model.compile("adam", "mse", jit_compile=False)
    model.fit(x, np.ones((4, 1)), verbose=0)
    model.save(folder / "model.keras")
    model.export(folder / "model", verbose=False)
    data = {f"weight_{i}": w for i, w in enumerate(model.get_weights())}
    data["outputs"] = np.asarray(model(x, training=False))
    data["predicted"] = model.predict(x, verbose=0)
    np.savez(folder / "data.npz", x=x, **data)
    return folder


def test_a_model_loads_after_importing_tfnode_alone(saved):
    result = python(LOAD, saved)
    assert result["early"] == []
    assert result["equal"] == {"weights": True, "outputs": True, "predicted": True}


def test_predictions_are_the_same_every_time():
    """AddN adds in the order in which buffers are free; no sum of the solver may be one."""
    model = tfnode.models.odenet((12, 12, 1), 3, filters=16)
    x = RNG.normal(size=(32, 12, 12, 1)).astype(np.float32)
    first = model.predict_on_batch(x)
    assert all(np.array_equal(model.predict_on_batch(x), first) for _ in range(100))


def test_an_export_loads_without_tfnode(saved):
    assert python(EXPORTED, saved) < 1e-6


# Modes of execution


@pytest.mark.few(1)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_eager_function_and_xla_agree(gradient):
    block = ODEBlock(
        mlp(dtype="float64"),
        solvers.RK4(num_steps=2),
        gradient,
        times=(0.0, 0.5, 1.0),
        dtype="float64",
    )
    x = tf.constant(X, tf.float64)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = block(x, training=True)
            loss = tf.reduce_sum(outputs**2)
        return [outputs, *tape.gradient(loss, [x, *block.trainable_variables])]

    eager = run()
    assert len(eager) == 6
    for mode in (tf.function(run), tf.function(run, jit_compile=True)):
        for a, b in zip(mode(), eager):
            assert b.dtype == tf.float64
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("gradient", "jit_compile"), [("adjoint", False), ("adjoint", True), ("backprop", False)]
)
def test_mixed_bfloat16_trains(gradient, jit_compile):
    keras.config.set_dtype_policy("mixed_bfloat16")
    block = ODEBlock(DenseDynamics(4), solvers.RK4(num_steps=2), gradient)
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3), block, keras.layers.Dense(1, dtype="float32")]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    before = model.get_weights()
    history = model.fit(X, Y, verbose=0, batch_size=8)
    assert np.isfinite(history.history["loss"]).all()
    assert len(before) == 8
    for variable, old in zip(model.trainable_variables, before):
        assert variable.dtype == "float32"
        assert np.abs(variable.numpy() - old).max() > 0, variable.path
        assert np.isfinite(variable.numpy()).all()
    assert block(np.ones((2, 3), np.float32)).dtype == tf.bfloat16
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(X, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None and g.dtype == tf.float32 for g in gradients)
    assert all(np.abs(g).max() > 0 for g in gradients)


def test_mixed_precision_gradients_are_those_of_float32():
    """The backward solve enters the autocast scope of the forward pass again."""
    results = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(3)
        keras.config.set_dtype_policy(policy)
        block = ODEBlock(mlp(), solvers.RK4(num_steps=10))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(block(X, training=True), tf.float32) ** 2)
        results[policy] = tape.gradient(loss, block.trainable_variables)
    for a, b in zip(*results.values()):
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max())


class Scaled(keras.layers.Layer):
    """dy/dt = w y in training, 3 w y for inference."""

    def build(self, t_shape, y_shape):
        self.w = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.3))

    def call(self, t, y, training=None):
        return (1.0 if training else 3.0) * self.w * y


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("training", "scale"), [(True, 1.0), (False, 3.0), (None, 3.0)])
def test_training_reaches_the_backward_solve(gradient, nested, training, scale):
    block = ODEBlock(Scaled(), solvers.RK4(num_steps=10), gradient)
    model = keras.Sequential([block]) if nested else block
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(model(x, training=training))
    by_x, by_w = tape.gradient(loss, [x, block.dynamics.w])
    np.testing.assert_allclose(by_x, np.full(X.shape, np.exp(0.3 * scale)), rtol=1e-5)
    np.testing.assert_allclose(by_w, X.sum() * scale * np.exp(0.3 * scale), rtol=1e-4)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_training_reaches_the_backward_solve_in_fit(gradient):
    block = ODEBlock(Scaled(), solvers.RK4(num_steps=10), gradient)
    model = keras.Sequential([keras.Input((2,)), block])
    model.compile(keras.optimizers.SGD(1.0), lambda y, p: tf.reduce_sum(p), jit_compile=False)
    model.train_on_batch(X, X)
    expected = 0.3 - X.sum() * np.exp(0.3)
    np.testing.assert_allclose(block.dynamics.w, expected, rtol=1e-4)


# State and losses of layers


class RunningMean(keras.layers.Layer):
    """Its input, whose mean over the batch it keeps, as batch normalisation does."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)

    def call(self, y, training=None):
        if training:
            batch = keras.ops.mean(keras.ops.stop_gradient(y), 0)
            self.mean.assign(0.9 * self.mean + 0.1 * batch)
        return y


def averaged(gradient, solver):
    norm = RunningMean()
    keras.utils.set_random_seed(5)
    dense = keras.layers.Dense(2)
    model = keras.Sequential(
        [keras.Input((2,)), ODEBlock(keras.Sequential([dense, norm]), solver, gradient)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    return model, dense, norm


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_running_averages_see_the_forward_solve_alone(gradient):
    model, dense, norm = averaged(gradient, "euler")
    kernel, bias = (np.asarray(w, np.float64) for w in dense.get_weights())
    np.testing.assert_array_equal(norm.mean, [0, 0])
    model.train_on_batch(X, X)
    h = X @ kernel + bias  # Euler's method evaluates once.
    np.testing.assert_allclose(norm.mean, 0.1 * h.mean(0), rtol=1e-5, atol=1e-7)
    assert not np.allclose(dense.get_weights()[0], kernel)


def test_running_averages_do_not_depend_on_the_gradient():
    averages = []
    for gradient in GRADIENTS:
        model, _, norm = averaged(gradient, solvers.RK4(num_steps=3))
        model.train_on_batch(X, X)
        averages.append(norm.mean.numpy())
    assert (averages[0] != 0).all()
    for other in averages[1:]:
        np.testing.assert_allclose(other, averages[0], rtol=1e-6)


class Penalty(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(0.25 * keras.ops.sum(inputs**2))
        return inputs


def penalized(gradient):
    keras.utils.set_random_seed(7)
    l2 = keras.regularizers.L2(0.5)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, kernel_regularizer=l2, name="first"),
            keras.layers.Dense(2, activity_regularizer=l2, name="second"),
            Penalty(),
            ODEBlock(
                keras.Sequential([keras.layers.Dense(2, "tanh", kernel_regularizer=l2)]),
                solvers.RK4(num_steps=40),
                gradient,
                name="flow",
            ),
            keras.layers.Dense(2, kernel_regularizer=l2, name="last"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    return model


def test_losses_of_other_layers_survive():
    steps = {}
    for gradient in GRADIENTS:
        model = penalized(gradient)
        first, second = model.get_layer("first"), model.get_layer("second")
        (dense,) = model.get_layer("flow").dynamics.layers
        kernels = [first.kernel, dense.kernel, model.get_layer("last").kernel]
        activity = second(first(X)).numpy()
        # Newer versions of Keras divide by the batch.
        regularizer = float(second.losses[0])
        expected = (
            np.mean((model(X).numpy() - X) ** 2)
            + 0.5 * sum(np.sum(k.numpy() ** 2) for k in kernels)
            + 0.25 * np.sum(activity**2)
            + regularizer
        )
        loss = model.train_on_batch(X, X)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        steps[gradient] = model.get_weights()
    for a, b in zip(*steps.values()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_losses_remain_after_an_eager_backward_pass(gradient):
    model = penalized(gradient)
    with tf.GradientTape() as tape:
        outputs = model(X, training=True)
        before = [float(x) for x in model.losses]
        loss = tf.reduce_sum(outputs)
    tape.gradient(loss, model.trainable_variables)
    assert len(before) == 5
    assert [float(x) for x in model.losses] == before


# Costs


@pytest.mark.few(1)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_costs(jit_compile):
    block = ODEBlock(mlp(), solvers.RK4(num_steps=2), "adjoint", times=(0.0, 0.5, 1.0))
    model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    zero = dict.fromkeys(block.costs(), 0)
    assert block.costs() == zero
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    # Two intervals of two steps of four evaluations, four batches.
    costs = block.costs()
    assert 0.0 < costs.pop("reconstruction_error") < 0.1
    for way in ("forward", "backward"):
        counts = [costs.pop(f"{way}{name}") for name in ("_solves", "", "_steps", "_rejected")]
        assert counts == [4 * 1, 4 * 16, 4 * 4, 0]
    assert not costs
    block.reset_costs()
    assert block.costs() == zero
    model.predict(X, verbose=0)
    model.evaluate(X, Y, verbose=0)
    assert block.costs() == zero
    assert len(model.weights) == 6
    assert model.count_params() == 2 * 4 + 4 + 4 * 2 + 2 + 3


def test_costs_of_backprop():
    """There is no backward solve to count."""
    block = ODEBlock(mlp(), "rk4", "backprop")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(X, training=True))
    tape.gradient(loss, block.trainable_variables)
    costs = {name: count for name, count in block.costs().items() if count}
    assert costs == {"forward_solves": 1, "forward": 4, "forward_steps": 1}


# Training


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_every_weight_gets_a_gradient(gradient):
    model = keras.Sequential(
        [keras.Input((2,)), ODEBlock(DenseDynamics(3), gradient=gradient), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = model.get_weights()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, verbose=0)
    assert [str(w.message) for w in caught if "radients do not" in str(w.message)] == []
    for variable, old in zip(model.trainable_variables, before):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path


def test_gradients_agree_with_many_steps():
    results = {}
    for gradient in GRADIENTS:
        keras.utils.set_random_seed(2)
        block = ODEBlock(
            DenseDynamics(4, dtype="float64"),
            solvers.RK4(num_steps=100),
            gradient,
            dtype="float64",
        )
        block.build((None, 2))

        @tf.function
        def run(block=block):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(block(tf.constant(X, tf.float64), training=True) ** 2)
            return tape.gradient(loss, block.trainable_variables)

        results[gradient] = run()
    assert len(results["adjoint"]) == 4
    for a, b in zip(*results.values()):
        assert np.abs(b).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_frozen_dynamics_stay():
    block = ODEBlock(mlp())
    block.trainable = False
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), block])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    dense, frozen = model.layers[0].get_weights(), block.get_weights()
    model.train_on_batch(X, X)
    for a, b in zip(block.get_weights(), frozen):
        np.testing.assert_array_equal(a, b)
    assert np.abs(model.layers[0].get_weights()[0] - dense[0]).max() > 0


MIRRORED = """
import json
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import contextlib
import keras
import numpy as np
import tfnode

x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
results = {}
for name in ("one", "two"):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if name == "two" else None
    with strategy.scope() if strategy else contextlib.nullcontext():
        dynamics = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
        block = tfnode.ODEBlock(dynamics)
        model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    history = model.fit(x, x[:, :1], batch_size=8, epochs=2, shuffle=False, verbose=0)
    weights = [w.tolist() for w in model.get_weights()]
    results[name] = {
        "replicas": strategy.num_replicas_in_sync if strategy else 1,
        "loss": history.history["loss"],
        "weights": np.concatenate([np.ravel(w) for w in weights]).tolist(),
        "costs": block.costs(),
    }
    block.reset_costs()
    results[name]["reset"] = block.costs()
print(json.dumps(results))
"""


@pytest.mark.slow  # `lab/test_distribution.py` has two replicas in every run.
def test_mirrored_strategy():
    results = python(MIRRORED)
    one, two = results["one"], results["two"]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=1e-4, atol=1e-6)
    # Four batches; every replica solves its part of each.
    error = one["costs"].pop("reconstruction_error")
    assert two["costs"].pop("reconstruction_error") == pytest.approx(2 * error, rel=0.2)
    for way in ("forward", "backward"):
        counts = [one["costs"][f"{way}{x}"] for x in ("_solves", "", "_steps", "_rejected")]
        assert counts == [4, 16, 4, 0]
    assert two["costs"] == {name: 2 * count for name, count in one["costs"].items()}
    assert set(two["reset"].values()) == {0}


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_a_gradient_that_does_not_go_with_the_solver(gradient):
    """When built, not when first differentiated."""
    with pytest.raises(ValueError, match="Use 'adjoint' instead. Received: solver="):
        tfnode.ODEBlock(tfnode.layers.DenseDynamics(4), solver="bdf", gradient=gradient)


@pytest.mark.parametrize("make", [list, tuple, np.array, tf.constant])
def test_symbolic_shape_with_times_of_a_call(make):
    block = tfnode.ODEBlock(keras.layers.Dense(2), return_sequences=True)
    inputs, times = keras.Input((2,)), make([0.0, 0.25, 0.5, 0.75, 1.0])
    outputs = block(inputs, times=times)
    assert outputs.shape == (None, 5, 2)
    model = keras.Model(inputs, keras.layers.Flatten()(outputs))
    assert model(np.ones((3, 2), "float32")).shape == (3, 10)


def a_function(t, y):
    return -y


@pytest.mark.parametrize("times", [[0.0, 5.0], [[0.0, 5.0], [0.0, 6.0]]])
def test_a_step_that_nobody_chose_is_said_where_times_are_given(times):
    x, times = tf.ones([2, 1]), tf.constant(times)
    with pytest.warns(UserWarning, match="'rk4' takes one step from each time to the next"):
        tfnode.ODEBlock(a_function)(x, times=times)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tfnode.ODEBlock(a_function)(x)
        for options in ({"solver": "dopri5"}, {"num_steps": 4}, {"solver": tfnode.solvers.RK4()}):
            tfnode.ODEBlock(a_function, **options)(x, times=times)


def test_a_function_that_a_saved_model_would_not_find_is_said(tmp_path):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, tfnode.ODEBlock(a_function)(inputs))
    with pytest.warns(UserWarning, match="register_keras_serializable"):
        model.save(tmp_path / "model.keras")
