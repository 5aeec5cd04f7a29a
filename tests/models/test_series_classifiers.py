"""The classifiers of irregular series: sizes, what they see, and that they learn and are kept."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfnode import models

pytestmark = pytest.mark.few(2)

NAMES = ("linear_series", "cnn1d", "gru", "ode_rnn", "neural_cde")
# Of two channels and two classes, about as large as each other.
SMALL = {
    "linear_series": {},
    "cnn1d": {"filters": 4},
    "gru": {"units": 6},
    "ode_rnn": {"units": 6, "hidden_units": 5},
    "neural_cde": {"units": 5, "hidden_units": 6},
}


def series(samples, seed=0):
    """Return values, times and classes: a wave to the left or to the right, with gaps and ends."""
    generator = np.random.default_rng(seed)
    classes = np.arange(samples) % 2
    times = np.cumsum(generator.uniform(0.05, 0.15, size=(samples, 12)), 1)
    times -= times[:, :1]
    phase = generator.uniform(0.0, 2 * np.pi, size=(samples, 1))
    angle = phase + 6.0 * times * np.where(classes, 1.0, -1.0)[:, None]
    values = np.stack([np.cos(angle), np.sin(angle)], 2)
    values[generator.random(values.shape) < 0.2] = np.nan
    last = np.minimum(np.arange(12), generator.integers(6, 12, size=(samples, 1)))
    ended = np.arange(12) > last
    times = np.take_along_axis(times, last, 1)
    values[ended] = np.nan
    return values.astype("f4"), times.astype("f4"), classes


@pytest.fixture(scope="module", params=NAMES)
def trained(request):
    """A model, trained for a while."""
    keras.utils.set_random_seed(0)
    model = getattr(models, request.param)((12, 2), 2, **SMALL[request.param])
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.jit_compile = False
    values, times, classes = series(128)
    batches = tf.data.Dataset.from_tensor_slices(((values, times), classes)).batch(32)
    epochs = 12 if request.param == "neural_cde" else 30
    history = model.fit(batches, epochs=epochs, verbose=0).history
    return model, history


def test_sizes():
    """With the defaults they are alike, and each is what its docstring says."""
    sizes = {}
    for name in NAMES:
        function = getattr(models, name)
        model = function()
        assert model.input_shape == [(None, 29, 12), (None, 29)] and model.output_shape == (None, 9)
        assert model.name == name
        sizes[name] = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        assert f"{sizes[name]:,} parameters" in " ".join(function.__doc__.split())
    # The linear one has no width.
    widths = [sizes[name] for name in NAMES[1:]]
    assert max(widths) < 1.1 * min(widths)
    assert max(widths) < 1.3 * sizes["linear_series"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.few(1)
def test_noise_is_in_training_alone(name):
    values, times, _ = series(4)
    keras.utils.set_random_seed(0)
    plain = getattr(models, name)((12, 2), 2, **SMALL[name])
    noisy = getattr(models, name)((12, 2), 2, **SMALL[name], noise=0.5)
    noisy.set_weights(plain.get_weights())
    np.testing.assert_array_equal(noisy((values, times)), plain((values, times)))
    seen = keras.Model(noisy.input, noisy.get_layer("noise").output)((values, times), training=True)
    np.testing.assert_array_equal(np.isnan(seen), np.isnan(values))
    moved = (seen - values)[~np.isnan(values)]
    assert 0.3 < np.std(moved) < 0.7
    with pytest.raises(ValueError, match="`noise` must be .* Received: noise=-1"):
        getattr(models, name)(noise=-1)


@pytest.mark.parametrize(
    "name, option", [("cnn1d", "filters"), ("gru", "units"), ("ode_rnn", "units"),
                     ("ode_rnn", "hidden_units"), ("neural_cde", "units"),
                     ("neural_cde", "hidden_units"), ("linear_series", "points")],
)  # fmt: skip
def test_any_size_can_be_had(name, option):
    """Within a fifth of it."""
    function = getattr(models, name)
    found = [function((10, 3), 4, **{option: size}).count_params() for size in range(20, 40, 2)]
    assert all(a < b < 1.2 * a for a, b in itertools.pairwise(found))


def test_it_learns(trained):
    model, history = trained
    values, times, classes = series(128, seed=1)
    _, accuracy = model.evaluate((values, times), classes, verbose=0)
    # No sum over the points tells the direction.
    if model.name == "linear_series":
        assert history["loss"][-1] < history["loss"][0]
    else:
        assert accuracy > 0.85


def test_inputs_are_a_tuple_a_list_or_a_dict(trained):
    model, _ = trained
    values, times, _ = series(4)
    expected = model.predict((values, times), verbose=0)
    for inputs in ([values, times], {"values": values, "times": times}):
        np.testing.assert_array_equal(model.predict(inputs, verbose=0), expected)


def test_padding_changes_nothing(trained):
    """But for the linear model and the convolutions, which know where a grid ends."""
    model, _ = trained
    values, times, _ = series(1, seed=2)
    length = 1 + np.count_nonzero(np.diff(times[0]))
    assert length < 12
    expected = model((values, times))
    changed = values.copy()
    changed[0, length:] = 5.0
    np.testing.assert_allclose(model((changed, times)), expected, rtol=1e-6, atol=1e-6)
    together = model((np.repeat(values, 3, 0), np.repeat(times, 3, 0)))
    np.testing.assert_allclose(together[1], expected[0], rtol=1e-4, atol=1e-5)


def test_save_and_load(trained, tmp_path):
    model, _ = trained
    values, times, _ = series(5, seed=3)
    expected = model.predict((values, times), verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    again.jit_compile = False
    np.testing.assert_allclose(again.predict((values, times), verbose=0), expected, rtol=1e-6)


@pytest.mark.slow
def test_export(trained, tmp_path):
    model, _ = trained
    values, times, _ = series(5, seed=3)
    expected = model.predict((values, times), verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    found = exported.serve((tf.constant(values[:2]), tf.constant(times[:2])))
    np.testing.assert_allclose(found, expected[:2], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_xla_trains_as_the_graph_does(name):
    losses = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = getattr(models, name)((12, 2), 2, **SMALL[name])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, jit_compile=jit_compile)
        values, times, classes = series(64)
        batches = tf.data.Dataset.from_tensor_slices(((values, times), classes)).batch(32)
        losses.append(model.fit(batches, epochs=3, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_has_logits_in_float32(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = getattr(models, name)((12, 2), 2, **SMALL[name])
    values, times, _ = series(2)
    logits = model((values, times))
    assert logits.dtype == "float32" and np.isfinite(logits).all()


def test_series_of_any_length():
    for name in NAMES:
        options = {"points": 8} if name in ("linear_series", "cnn1d") else {}
        model = getattr(models, name)((None, 2), 2, **SMALL[name], **options)
        assert model.input_shape == [(None, None, 2), (None, None)]
    for function in (models.linear_series, models.cnn1d):
        with pytest.raises(ValueError, match="`points` must be given.*Received: points=None"):
            function((None, 2), 2)


@pytest.mark.parametrize("name", NAMES)
def test_errors(name):
    function = getattr(models, name)
    with pytest.raises(ValueError, match=r"\(n, channels\). Received: input_shape=\(28, 28, 1\)"):
        function((28, 28, 1))
    options = {"linear_series": "points", "cnn1d": "points"}
    with pytest.raises(ValueError, match=r"Received: (units|points)=0"):
        function(**{options.get(name, "units"): 0})
