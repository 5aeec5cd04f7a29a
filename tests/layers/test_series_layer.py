"""What all layers for irregular series promise: times, masks, gaps, shapes, files and dtypes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode import layers

pytestmark = pytest.mark.few(2)

RNG = np.random.default_rng(0)
# Three series of 5, 3 and 4 points, of two channels.
LENGTHS = (5, 3, 4)
TIMES = np.cumsum(RNG.uniform(0.1, 0.5, size=(3, 5)), 1)
VALUES = RNG.normal(size=(3, 5, 2))
VALUES[0, 1, 0] = VALUES[1, 0, 1] = np.nan  # One channel is missing,
VALUES[2, 2] = np.nan  # or all of them.
SLOW = pytest.mark.slow
KINDS = {"ODERNN": layers.ODERNN, "NeuralCDE": layers.NeuralCDE, "DecayRNN": layers.DecayRNN}


def padded():
    """Return the series with rows that end early: they repeat their last time, without values."""
    values, times = VALUES.copy(), TIMES.copy()
    for i, length in enumerate(LENGTHS):
        values[i, length:] = np.nan
        times[i, length:] = times[i, length - 1]
    return values, times


class Made:
    """A layer, as a function of its last state and of the sequence that is traced twice."""

    def __init__(self, kind, **options):
        self.layer = kind(3, return_sequences=True, dtype="float64", **options)
        self.layer.build((None, 5, 2))
        weights = [0.2 + 0.3 * RNG.normal(size=w.shape) for w in self.layer.weights]
        self.layer.set_weights(weights)
        values, times = (
            tf.TensorSpec([None, None, 2], "float64"),
            tf.TensorSpec([None] * 2, "float64"),
        )
        mask = tf.TensorSpec([None, None], "bool")
        self._plain = tf.function(
            lambda v, t: self.layer(v, times=t), input_signature=[values, times]
        )
        self._masked = tf.function(
            lambda v, t, m: self.layer(v, times=t, mask=m), input_signature=[values, times, mask]
        )

    def __call__(self, values, times, mask=None):
        sequence = self._plain(values, times) if mask is None else self._masked(values, times, mask)
        return sequence[:, -1].numpy(), sequence.numpy()


@pytest.fixture(scope="module", params=KINDS)
def made(request):
    return Made(KINDS[request.param])


@pytest.fixture(scope="module", params=["ODERNN", "DecayRNN"])
def backwards(request):
    return Made(KINDS[request.param], go_backwards=True)


def test_a_padded_row_is_the_row_alone(made):
    last, sequence = made(*padded())
    assert np.isfinite(sequence).all() and np.ptp(sequence) > 0.1
    for i, length in enumerate(LENGTHS):
        alone = made(VALUES[i : i + 1, :length], TIMES[i : i + 1, :length])
        np.testing.assert_allclose(last[i], alone[0][0], rtol=1e-12)
        np.testing.assert_allclose(sequence[i, :length], alone[1][0], rtol=1e-12)
        np.testing.assert_allclose(sequence[i, length:], np.tile(last[i], (5 - length, 1)))


def with_masked_steps():
    """Return the padded series with masked steps in all places, and the mask."""
    values, times = np.full((3, 8, 2), 7.0), RNG.normal(size=(3, 8))
    values[:, 3] = np.nan
    mask = np.zeros((3, 8), bool)
    places = [[0, 1, 2, 4, 5], [2, 3, 7], [1, 2, 5, 6]]
    for i, (length, place) in enumerate(zip(LENGTHS, places)):
        values[i, place], times[i, place] = VALUES[i, :length], TIMES[i, :length]
        mask[i, place] = True
    return values, times, mask


def test_a_masked_step_changes_nothing(made):
    last, sequence = made(*padded())
    values, times, mask = with_masked_steps()
    found = made(values, times, mask)
    np.testing.assert_allclose(found[0], last, rtol=1e-12)
    for i, length in enumerate(LENGTHS):
        before = 0.0
        states = iter(sequence[i, :length])
        for k in range(8):
            # As in Keras, the state before it, and zeros before the first.
            before = next(states) if mask[i, k] else before
            np.testing.assert_allclose(found[1][i, k], before * np.ones(3), rtol=1e-12)
    assert np.abs(made(*padded(), np.ones((3, 5), bool))[0] - last).max() < 1e-12


def test_backwards_is_in_the_order_of_reading(backwards):
    last, sequence = backwards(*padded())
    values, times, mask = with_masked_steps()
    found = backwards(values, times, mask)
    np.testing.assert_allclose(found[0], last, rtol=1e-12)
    for i, length in enumerate(LENGTHS):
        alone = backwards(VALUES[i : i + 1, :length], TIMES[i : i + 1, :length])
        np.testing.assert_allclose(alone[1][0, -1], last[i], rtol=1e-12)
        np.testing.assert_allclose(found[1][i][mask[i, ::-1]], alone[1][0], rtol=1e-12)
        np.testing.assert_allclose(sequence[i, 5 - length :], alone[1][0], rtol=1e-12)
        np.testing.assert_array_equal(sequence[i, : 5 - length], 0.0)
    symbols = keras.KerasTensor((None, 8, 2)), keras.KerasTensor((None, 8), dtype="bool")
    assert backwards.layer.compute_mask(*symbols).shape == (None, 8)
    np.testing.assert_array_equal(backwards.layer.compute_mask(None, mask), mask[:, ::-1])


def test_a_permuted_batch_permutes_the_output(made):
    values, times = padded()
    last, sequence = made(values, times)
    order = [2, 0, 1]
    found = made(values[order], times[order])
    np.testing.assert_allclose(found[0], last[order], rtol=1e-12)
    np.testing.assert_allclose(found[1], sequence[order], rtol=1e-12)


def test_every_observation_and_every_time_has_an_effect(made):
    last, _ = made(VALUES, TIMES)
    for k in range(5):
        for c in range(2):
            changed = VALUES.copy()
            changed[0, k, c] = 0.3 if np.isnan(VALUES[0, k, c]) else np.nan
            assert np.abs(made(changed, TIMES)[0][0] - last[0]).max() > 1e-6, (k, c)
        times = TIMES.copy()
        times[0, k] += 0.05
        assert np.abs(made(VALUES, times)[0][0] - last[0]).max() > 1e-6, k


def test_a_row_without_points_is_zero_and_harms_no_gradient(made):
    values, times = VALUES.copy(), TIMES.copy()
    values[1], times[1] = np.nan, np.nan
    mask = np.ones((3, 5), bool)
    mask[1] = False
    last, sequence = made(values, times, mask)
    np.testing.assert_array_equal(last[1], 0.0)
    np.testing.assert_array_equal(sequence[1], 0.0)
    np.testing.assert_allclose(last[0], made(VALUES, TIMES)[0][0], rtol=1e-12)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made.layer(values, times=times, mask=tf.constant(mask)))
        return tape.gradient(loss, made.layer.trainable_variables)

    assert all(np.isfinite(g).all() for g in gradients())


def test_the_values_of_a_row_without_points_have_no_effect(made):
    """Infinite ones neither: the gradients of the weights stay finite."""
    mask = np.ones((3, 5), bool)
    mask[1] = False
    gradients = []
    for value in (0.5, np.inf):
        values = VALUES.copy()
        values[1] = value
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made.layer(values, times=TIMES, mask=mask))
        gradients.append(tape.gradient(loss, made.layer.trainable_variables))
    for a, b in zip(*gradients):
        np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(g).all() for g in gradients[0])


def test_shared_and_default_times(made):
    times = np.array([0.0, 0.2, 0.3, 0.7, 1.1])
    _, expected = made(VALUES, np.tile(times, (3, 1)))
    for given in (times, list(times)):
        np.testing.assert_allclose(made.layer(VALUES, times=given), expected, rtol=1e-12)
    _, expected = made(VALUES, np.tile(np.arange(5.0), (3, 1)))
    np.testing.assert_allclose(made.layer(VALUES), expected, rtol=1e-12)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_last_state_is_the_end_of_the_sequence(made, backwards):
    if backwards and isinstance(made.layer, layers.NeuralCDE):
        pytest.skip("A path has one direction.")
    config = {**made.layer.get_config(), "return_sequences": False}
    config |= {"go_backwards": True} if backwards else {}
    last = type(made.layer).from_config(config)
    sequence = type(made.layer).from_config({**config, "return_sequences": True})
    values, times, mask = with_masked_steps()
    mask[1] = False
    for layer in (last, sequence):
        layer.build(values.shape)
        layer.set_weights(made.layer.get_weights())
    found = last(values, times=times, mask=mask)
    np.testing.assert_array_equal(found[1], 0.0)
    assert np.abs(found[::2]).min() > 0.0
    np.testing.assert_allclose(found, sequence(values, times=times, mask=mask)[:, -1], rtol=1e-12)


@pytest.mark.few(1)
def test_xla(made):
    values, times, mask = with_masked_steps()
    compiled = tf.function(lambda v, t, m: made.layer(v, times=t, mask=m), jit_compile=True)
    found = compiled(tf.constant(values), tf.constant(times), tf.constant(mask))
    np.testing.assert_allclose(found, made(values, times, mask)[1], rtol=1e-10)


# Keras


@pytest.mark.parametrize("name", [*KINDS, "SeriesGrid"])
def test_a_mask_that_keras_passes_on_is_used(name):
    """With times that are a tensor and without."""
    make = getattr(layers, name)
    options = {} if name == "SeriesGrid" else {"return_sequences": True}
    layer = make(3, **options)
    values, times, mask = with_masked_steps()
    values = np.where(np.isnan(values), 0.5, values).astype("f4")
    values[~mask] = -1.0
    inputs = keras.Input((8, 2)), keras.Input((8,))
    x = keras.layers.Masking(-1.0)(inputs[0])
    model = keras.Model(inputs, [layer(x, times=inputs[1]), layer(x)])
    arguments = tf.constant(values), tf.constant(times, "float32")
    outputs = model(arguments)
    for found, given in zip(outputs, (arguments[1], None)):
        expected = layer(arguments[0], times=given, mask=tf.constant(mask))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(found - layer(arguments[0], mask=tf.ones([3, 8], tf.bool))).max() > 1e-3
    carried = tf.constant(times, "float32")
    keras.src.backend.set_keras_mask(carried, tf.constant(mask))
    found = layer(tf.constant(values), times=carried)
    np.testing.assert_allclose(found, outputs[0], rtol=1e-5, atol=1e-6)
    if name != "SeriesGrid":
        np.testing.assert_array_equal(outputs[0]._keras_mask, mask)
        np.testing.assert_array_equal(found._keras_mask, mask)
        assert getattr(make(3)(values, mask=mask), "_keras_mask", None) is None


@pytest.mark.parametrize(
    "name",
    ["NeuralCDE", *(pytest.param(x, marks=SLOW) for x in ("ODERNN", "DecayRNN", "SeriesGrid"))],
)
def test_functional_model_with_a_mask_is_saved_and_exported(name, tmp_path):
    make = getattr(layers, name)
    inputs = [
        keras.Input((None, 2), name="values"),
        keras.Input((None,), name="times"),
        keras.Input((None,), dtype="bool", name="mask"),
    ]
    layer = make(4)
    outputs = layer(inputs[0], times=inputs[1], mask=inputs[2])
    assert outputs.shape == ((None, 4, 4) if name == "SeriesGrid" else (None, 4))
    model = keras.Model(inputs, outputs)
    values, times, mask = with_masked_steps()
    arguments = values.astype("f4"), times.astype("f4"), mask
    expected = model.predict(arguments, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.predict(arguments, verbose=0), expected, rtol=1e-6)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    for batch in (3, 2):
        part = [tf.constant(x[:batch]) for x in arguments]
        np.testing.assert_allclose(exported.serve(part), expected[:batch], rtol=1e-5, atol=1e-6)


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.readout = layer, keras.layers.Dense(1)

    def call(self, inputs):
        values, times = inputs
        return self.readout(self.layer(values, times=times))


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=SLOW)])
@pytest.mark.parametrize(
    "kind",
    [layers.ODERNN, *(pytest.param(x, marks=SLOW) for x in (layers.NeuralCDE, layers.DecayRNN))],
)
def test_a_subclassed_model_is_fitted(kind, jit_compile):
    model = Subclassed(kind(4))
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
    values, times = (x.astype("f4") for x in padded())
    target = np.array([[1.0], [-1.0], [0.5]], "f4")
    # Forty steps on the one batch.
    batches = tf.data.Dataset.from_tensors(((values, times), target)).repeat(10)
    history = model.fit(batches, epochs=4, verbose=0).history["loss"]
    assert history[-1] < 0.2 * history[0]


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_half_precision(kind, dtype):
    half, full = kind(3, dtype=dtype), kind(3)
    values, times = padded()
    # The clock of the times stays as wide as it is.
    times = 3600.0 + times
    outputs, expected = half(values, times=times), full(values, times=times)
    assert outputs.dtype == half.compute_dtype and expected.dtype == "float32"
    spec = half.compute_output_spec(keras.KerasTensor((3, 5, 2)))
    assert (spec.dtype, spec.shape) == (half.compute_dtype, (3, 3))
    assert {w.dtype for w in half.weights} == {"float32"}
    half.set_weights(full.get_weights())
    outputs = tf.cast(half(values, times=times), tf.float32)
    np.testing.assert_allclose(outputs, expected, atol=0.1 if "bf" in dtype else 0.02)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_of_symbols(kind):
    values, times = keras.KerasTensor((None, None, 2)), keras.KerasTensor((None, None))
    assert kind(4)(values, times=times).shape == (None, 4)
    assert kind(4, return_sequences=True)(values, times=times).shape == (None, None, 4)
    assert kind(4, return_sequences=True).compute_output_shape((3, 5, 2)) == (3, 5, 4)


@pytest.mark.parametrize("name", [*KINDS, "SeriesGrid"])
def test_errors(name):
    make = getattr(layers, name)
    values = tf.zeros([2, 3, 1])
    with pytest.raises(ValueError, match=r"must be an int of at least 1. Received: \w+=0"):
        make(0)
    with pytest.raises(ValueError, match=r"\(batch, n, channels\).* Received: values of shape"):
        make(2)(tf.zeros([2, 3]))
    for shape in ((4,), (2, 2), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"`times` must have the shape.* Received: times of"):
            make(2)(values, times=tf.zeros(shape))
    layer = make(2)
    layer(values)  # A layer that is built checks, too.
    with pytest.raises(ValueError, match=r"`times` must have the shape.* Received: times of"):
        layer(values, times=tf.zeros((2, 2)))
    with pytest.raises(ValueError, match="batch, n, channels|expected ndim=3, found ndim=2"):
        layer(tf.zeros((2, 3)), times=values)
    if name != "SeriesGrid":  # It has no weights.
        with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 1"):
            layer(tf.zeros((2, 3, 9)))
    for shape in ((3,), (2, 4), (2, 3, 1), (1, 3)):
        with pytest.raises(ValueError, match=r"`mask` must have the shape.* Received: mask of sh"):
            make(2)(values, mask=tf.ones(shape, tf.bool))
    with pytest.raises(ValueError, match=r"\(batch, n, channels\).* Received: values of shape"):
        make(2)([values, tf.zeros([2, 3]), tf.ones([2, 3])])
    with pytest.raises(TypeError, match="must be floats; cast them first. Received: dtype=int32"):
        make(2)(values, times=tf.range(3))
    with pytest.raises(ValueError, match=r"strictly increasing.* Received: times=\[0. 2. 1.\]"):
        make(2)(values, times=[0.0, 2.0, 1.0])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="strictly increasing"):
        make(2)(values, times=tf.constant([[0.0, 1.0, 2.0], [0.0, 1.0, 0.5]]))


# The grid


def test_a_grid_has_the_last_observation_and_says_what_was_observed():
    nan = np.nan
    values = np.float32([[[1.0], [nan], [3.0], [4.0]], [[nan], [5.0], [nan], [nan]]])
    times = np.float32([[0.0, 1.0, 2.9, 4.0], [10.0, 10.5, 11.0, 11.0]])
    found = layers.SeriesGrid(5)(values, times=times)
    np.testing.assert_array_equal(found[0], [[1, 1], [1, 0], [1, 0], [3, 1], [4, 1]])
    np.testing.assert_array_equal(found[1], [[0, 0], [0, 0], [5, 1], [5, 0], [5, 0]])


@pytest.mark.parametrize("times", [[0.0, 2.0, 1.0], [0.0, 1.0, np.nan], [0.0, -1.0, -2.0]])
def test_a_grid_of_times_that_do_not_increase_is_nan_under_xla(times):
    layer = layers.SeriesGrid(4)
    compiled = tf.function(lambda v, t: layer(v, times=t), jit_compile=True)
    found = compiled(tf.ones([1, 3, 2]), tf.constant([times]))
    assert np.isnan(found[..., :2]).all()


def test_a_regular_series_is_its_own_grid():
    """Also where the times are rounded."""
    values = RNG.normal(size=(2, 29, 3)).astype("f4")
    times = np.float32(0.064) * np.arange(29, dtype="f4")
    found = layers.SeriesGrid(29)(values, times=times)
    np.testing.assert_array_equal(found[..., :3], values)
    np.testing.assert_array_equal(found[..., 3:], 1.0)


# The decay


def test_decay_is_the_recurrence_over_the_points():
    layer = layers.DecayRNN(2, "simple", return_sequences=True, dtype="float64")
    values, times = padded()
    layer(values, times=times)
    weights = [RNG.normal(size=w.shape) for w in layer.weights]
    layer.set_weights(weights)
    found = layer(values, times=times).numpy()
    weights = {w.name: x for w, x in zip(layer.weights, weights)}
    rate = np.log1p(np.exp(weights["rate"]))
    for i, length in enumerate(LENGTHS):
        h, x, seen, t = np.zeros(2), np.zeros(2), np.full(2, times[i, 0]), times[i, 0]
        for k in range(length):
            h, since = h * np.exp(-rate * (times[i, k] - t)), times[i, k] - seen
            t, observed = times[i, k], ~np.isnan(values[i, k])
            x = np.where(observed, values[i, k], x)
            seen = np.where(observed, t, seen)
            if observed.any():
                features = np.concatenate([x, observed, since])
                h = features @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"]
                h = np.tanh(h)
            np.testing.assert_allclose(found[i, k], h, rtol=1e-10, atol=1e-12)


def test_layers_are_public():
    for name in (*KINDS, "SeriesGrid"):
        layer = getattr(tfnode.layers, name)(2)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
