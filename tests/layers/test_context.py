"""`ODEBlock(dynamics)(x, context=...)`: what the dynamics are told beside time and state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode

TIGHT = tfnode.solvers.Dopri5(rtol=1e-10, atol=1e-10)
X = np.array([[1.0], [2.0], [3.0]])
RATES = np.array([[0.1], [0.5], [0.9]])


@keras.saving.register_keras_serializable("tests")
def decay(t, y, rate):
    return -rate * y


@keras.saving.register_keras_serializable("tests")
class Told(keras.layers.Layer):
    """Dynamics with a nest of a float and an integer tensor as context."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(5, 2)
        self.dense = keras.layers.Dense(2)

    def build(self, t_shape, y_shape, context_shape):
        self.table.build(context_shape["kind"])
        self.dense.build((None, 5))
        self.built = True

    def call(self, t, y, context):
        kind = self.table(context["kind"])
        return self.dense(keras.ops.concatenate([y, kind, context["dose"]], -1))

    def compute_output_shape(self, t_shape, y_shape, context_shape):
        return y_shape


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.few(2)
def test_the_solution_and_its_gradient_in_the_context(gradient):
    block = tfnode.ODEBlock(decay, solver=TIGHT, gradient=gradient, dtype="float64")
    rates = tf.constant(RATES)
    with tf.GradientTape() as tape:
        tape.watch(rates)
        y = block(X, context=rates)
    np.testing.assert_allclose(y, X * np.exp(-RATES), rtol=1e-8)
    np.testing.assert_allclose(tape.gradient(y, rates), -X * np.exp(-RATES), rtol=1e-7)


def model_with_context():
    x, dose = keras.Input((2,), name="x"), keras.Input((1,), name="dose")
    kind = keras.Input((), dtype="int32", name="kind")
    context = {"kind": kind, "dose": dose}
    y = tfnode.ODEBlock(Told(), return_sequences=True)(x, context=context)
    assert y.shape == (None, 2, 2)
    return keras.Model({"x": x, "dose": dose, "kind": kind}, y)


INPUTS = {
    "x": np.ones((4, 2), np.float32),
    "dose": np.arange(4.0, dtype=np.float32)[:, None],
    "kind": np.arange(4, dtype=np.int32),
}


def test_a_functional_model_trains_saves_and_loads(tmp_path):
    model = model_with_context()
    model.compile("sgd", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(INPUTS, np.zeros((4, 2, 2)), verbose=0)
    assert len(before) == 3
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights()))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0)
    )
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    served = exported.serve(INPUTS)
    np.testing.assert_allclose(served, model.predict(INPUTS, verbose=0), rtol=1e-5)


def test_half_precision_casts_the_context():
    block = tfnode.ODEBlock(decay, dtype="mixed_bfloat16")
    assert block(X, context=RATES).dtype == tf.bfloat16


def test_a_functional_model_as_dynamics_takes_three_inputs():
    y, c = keras.Input((1,)), keras.Input((1,))
    t = keras.Input(batch_shape=())
    dynamics = keras.Model([t, y, c], keras.layers.Multiply()([y, -c]))
    block = tfnode.ODEBlock(dynamics, solver=TIGHT)
    np.testing.assert_allclose(block(X, context=RATES), X * np.exp(-RATES), rtol=1e-5)


def test_a_layer_that_takes_no_context_is_refused():
    with pytest.raises(ValueError, match=r"call\(self, t, y, context\)"):
        tfnode.ODEBlock(keras.layers.Dense(1))(X, context=RATES)


@pytest.mark.few(3)
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
def test_a_context_is_left_out_with_the_samples_that_are_done(gradient, jit_compile):
    """The rows of all evaluations are those that each sample alone would take."""
    x, rates, factor = tf.constant(X), tf.constant(RATES), tf.constant(2.0, tf.float64)
    times = np.array([[0.0, 0.01], [1.0, 1.0], [0.0, -4.0]])
    rows = tf.Variable(0)

    def dynamics(t, y, context):
        rows.assign_add(tf.shape(y)[0])
        return -context["rate"] * context["factor"] * y

    @tf.function(jit_compile=jit_compile)
    def run():
        rows.assign(0)
        with tf.GradientTape() as tape:
            tape.watch((rates, factor))
            context = {"rate": rates, "factor": factor}
            method = tfnode.gradients.get(gradient, TIGHT)
            y, _, stats = tfnode.integrate.solve(
                dynamics, x, times, TIGHT, method, final_only=True, context=context
            )
            forward = rows.read_value()
        return y, *tape.gradient(y, (rates, factor)), stats.num_evaluations, forward

    y, by_rate, by_factor, evaluations, forward = run()
    elapsed = times[:, 1:] - times[:, :1]
    right = X * np.exp(-2.0 * RATES * elapsed)
    np.testing.assert_allclose(y, right, rtol=1e-8)
    np.testing.assert_allclose(by_rate, -2.0 * elapsed * right, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(by_factor, np.sum(-RATES * elapsed * right), rtol=1e-7)
    if not jit_compile and gradient != "backprop":  # It solves twice.
        assert int(forward) <= 1.1 * int(tf.reduce_sum(evaluations))


def test_a_context_of_another_size_than_the_batch():
    block = tfnode.ODEBlock(decay, solver=TIGHT, dtype="float64")
    times = tf.constant([[0.0, 1.0], [1.0, 1.5], [0.0, -1.0]], tf.float64)
    with pytest.raises(ValueError, match="not a scalar.*context of shapes.*2, 1"):
        block(X, times=times, context=tf.constant(RATES[:2]))
    right = X * np.exp(-0.5 * (times[:, 1:] - times[:, :1]))
    np.testing.assert_allclose(block(X, times=times, context=tf.constant(0.5)), right, rtol=1e-8)
    spec = tf.TensorSpec([None, 1], tf.float64)
    solve = tf.function(lambda x, c: block(x, times=times, context=c), input_signature=[spec, spec])
    np.testing.assert_allclose(solve(X, RATES[:, ::-1] * 0.0 + 0.5), right, rtol=1e-8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="every tensor of the context"):
        solve(X, RATES[:2])


def test_each_sample_has_its_own_times():
    block = tfnode.ODEBlock(decay, solver=TIGHT, return_sequences=True, dtype="float64")
    times = tf.constant([[0.0, 1.0, 2.0], [1.0, 1.5, 1.5], [0.0, -1.0, -3.0]], tf.float64)
    rates = tf.constant(RATES)
    with tf.GradientTape() as tape:
        tape.watch(rates)
        y = block(X, times=times, context=rates, training=True)
    elapsed = (times - times[:, :1])[..., None]
    right = X[:, None] * np.exp(-RATES[:, None] * elapsed)
    np.testing.assert_allclose(y, right, rtol=1e-8)
    by_rate = np.sum(-elapsed * right, axis=1)
    np.testing.assert_allclose(tape.gradient(y, rates), by_rate, rtol=1e-7)
    x, t, c = keras.Input((1,)), keras.Input((3,), dtype="float64"), keras.Input((1,))
    assert block(x, times=t, context=c).shape == (None, 3, 1)


@keras.saving.register_keras_serializable("tests")
def one_of_three(t, y, kind):
    return -tf.gather(tf.constant([1.0, 2.0, 3.0]), kind)[:, tf.newaxis] * y


def test_integers_of_plain_dynamics_are_saved_and_loaded(tmp_path):
    """Keras tells a layer that is loaded the shapes of its context alone."""
    x, kind, times = keras.Input((1,)), keras.Input((), dtype="int32"), keras.Input((2,))
    y = tfnode.ODEBlock(one_of_three, "dopri5")(x, times=times, context=kind)
    model = keras.Model([x, kind, times], y)
    inputs = np.ones((2, 1)), np.array([0, 2]), np.array([[0.0, 1.0], [0.0, 1.0]])
    found = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(found[:, 0], np.exp([-1.0, -3.0]), rtol=1e-2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").predict(inputs, verbose=0)
    np.testing.assert_array_equal(again, found)


def test_numbers_are_a_context():
    block = tfnode.ODEBlock(lambda t, y, c: -c["rate"] * c["factor"] * y, solver=TIGHT)
    y = block(X, context={"rate": 0.5, "factor": 2.0})
    np.testing.assert_allclose(y, X * np.exp(-1.0), rtol=1e-5)


@pytest.mark.parametrize("context", [{}, (), {"a": None}, tf.ragged.constant([[1.0], [2.0, 3.0]])])
def test_what_is_no_context(context):
    with pytest.raises(ValueError, match="`context` must.*Received: context"):
        tfnode.ODEBlock(decay, solver=TIGHT)(X, context=context)
