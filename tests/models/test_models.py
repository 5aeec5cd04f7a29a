"""`odenet`, `anode` and `resnet18`: sizes, options, dtypes, and that they learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfnode import ODEBlock, gradients, models, solvers
from tfnode.layers import Augment, TimeBatchNormalization

pytestmark = pytest.mark.few(2)

RNG = np.random.default_rng(0)


def block_of(model):
    (block,) = [layer for layer in model.layers if isinstance(layer, ODEBlock)]
    return block


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


# odenet


def test_odenet_of_the_paper():
    model = models.odenet()
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert model.count_params() == 143_314
    assert trainable(model) == 142_154
    block = block_of(model)
    assert block.input.shape == block.output.shape == (None, 12, 12, 64)
    assert type(block.solver) is solvers.RK38
    assert type(block.gradient) is gradients.Adjoint
    assert block.times == (0.0, 1.0)
    assert all(isinstance(norm, TimeBatchNormalization) for norm in block.dynamics.norms)
    assert not block.return_sequences
    # Logits: the last layer is linear.
    assert model.layers[-1].activation is keras.activations.linear


def test_odenet_layers():
    """conv 3x3, norm, ReLU, conv 4x4 stride 2, ODE block, average pool, dense."""
    model = models.odenet(filters=4)
    names = [type(layer).__name__ for layer in model.layers]
    assert names == [
        "InputLayer",
        "Conv2D",
        "FusedBatchNormalization",
        "ReLU",
        "Conv2D",
        "ODEBlock",
        "GlobalAveragePooling2D",
        "Dense",
    ]
    first, second = (layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert (first.kernel_size, first.strides) == ((3, 3), (1, 1))
    assert (second.kernel_size, second.strides) == ((4, 4), (2, 2))


@pytest.mark.parametrize(
    ("norm", "parameters"),
    # Norms outside: gamma, beta, and 2 averages a channel; inside: 2 averages and 1 weight
    # at each of 4 knots.
    [("batch", 4 * 4 + 2 * (2 * 4 + 4 * 9)), ("group", 3 * 8), ("layer", 3 * 8), (None, 0)],
)
@pytest.mark.parametrize("training", [True, False])
def test_odenet_norms(norm, parameters, training):
    model = models.odenet((12, 12, 1), 3, filters=4, norm=norm)
    convolutions = (9 * 4 + 4) + (16 * 4 * 4 + 4) + 2 * 9 * 5 * 4
    assert model.count_params() == convolutions + parameters + 4 * 3 + 3
    outputs = model(RNG.normal(size=(2, 12, 12, 1)).astype(np.float32), training=training)
    assert outputs.shape == (2, 3)
    assert np.isfinite(outputs).all()


def test_odenet_augmented():
    model = models.odenet((12, 12, 2), 3, filters=4, augment=2, solver="euler", gradient="backprop")
    block = block_of(model)
    assert block.output.shape == (None, 4, 4, 6)
    assert block.dynamics.filters == 6
    assert [layer.n for layer in model.layers if isinstance(layer, Augment)] == [2]
    assert type(block.solver) is solvers.Euler
    assert type(block.gradient) is gradients.Backprop
    assert model(np.ones((1, 12, 12, 2), np.float32)).shape == (1, 3)


def test_odenet_without_its_block():
    whole, control = models.odenet(filters=4), models.odenet(filters=4, block=False)
    assert not any(isinstance(layer, ODEBlock) for layer in control.layers)
    removed = block_of(whole).count_params()
    assert removed > 0
    assert control.count_params() == whole.count_params() - removed
    assert control(np.ones((1, 28, 28, 1), np.float32)).shape == (1, 10)


def test_odenet_with_a_residual_block_for_control():
    options = {"filters": 4, "norm": "group"}
    model = models.odenet((12, 12, 1), 3, solver="euler", gradient="backprop", **options)
    assert model.count_params() == models.odenet((12, 12, 1), 3, **options).count_params()
    block = block_of(model)
    y = tf.constant(RNG.normal(size=(2, 4, 4, 4)), tf.float32)
    np.testing.assert_allclose(block(y), y + block.dynamics(tf.constant(0.0), y), atol=1e-6)


def test_odenet_solvers_take_steps_and_tolerances():
    options = {"input_shape": (12, 12, 1), "filters": 2}
    assert block_of(models.odenet(solver="rk4", num_steps=3, **options)).solver.num_steps == 3
    solver = block_of(models.odenet(solver="dopri5", tol=1e-5, **options)).solver
    assert type(solver) is solvers.Dopri5
    assert (solver.rtol, solver.atol) == (1e-5, 1e-5)
    own = solvers.Dopri5(rtol=0.1, max_steps=7)
    solver = block_of(models.odenet(solver=own, tol=1e-5, **options)).solver
    assert (solver.rtol, solver.max_steps, own.rtol) == (1e-5, 7, 0.1)


def test_the_smallest_image():
    model = models.odenet((6, 6, 1), 2, filters=2)
    assert block_of(model).output.shape == (None, 1, 1, 2)
    assert np.isfinite(model(np.ones((1, 6, 6, 1), np.float32))).all()


@pytest.mark.parametrize(
    "options",
    [
        {"input_shape": (5, 6, 1)},
        {"input_shape": (28, 28)},
        {"norm": "instance"},
        {"filters": 0},
        {"solver": "rk5"},
        {"gradient": "adjiont"},
        {"augment": -1},
        {"augment": 2, "block": False},
        {"num_steps": 0},
        {"solver": "dopri5", "num_steps": 2},
        {"solver": "rk4", "tol": 1e-3},
        {"solver": "dopri5", "tol": 0.0},
    ],
    ids=str,
)
def test_odenet_refuses(options):
    with pytest.raises(ValueError, match="Received"):
        models.odenet(**{"filters": 2, **options})


def test_odenet_learns():
    """Bright squares on the left or the right."""
    labels = np.arange(64) % 2
    images = 0.3 * RNG.normal(size=(64, 8, 8, 1)).astype(np.float32)
    images[labels == 1] += 1.0
    model = models.odenet((8, 8, 1), 2, filters=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"], jit_compile=False)
    history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0).history
    assert history["loss"][1] < 0.8 * history["loss"][0]
    assert history["accuracy"][1] > 0.8
    # Averages by time serve evaluation, too.
    assert model.evaluate(images, labels, verbose=0)[1] > 0.8


# anode


@pytest.mark.parametrize(
    ("options", "parameters", "channels"),
    [({}, 85_462, 6), ({"filters": 92, "augment": 0}, 85_316, 1)],
    ids=["anode", "node"],
)
def test_anode_of_the_paper(options, parameters, channels):
    model = models.anode(**options)
    assert model.count_params() == parameters
    assert (model.input_shape, model.output_shape) == ((None, 28, 28, 1), (None, 10))
    block = block_of(model)
    assert block.input.shape == block.output.shape == (None, 28, 28, channels)
    assert type(block.solver) is solvers.Dopri5
    assert block.solver.rtol == block.solver.atol == 1e-3
    regularized = block_of(models.anode(**options, regularizers={"kineticenergy": 0.01}))
    assert [x.weight for x in regularized.regularizers] == [0.01]
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.slow
def test_anode_learns(tmp_path):
    labels = np.arange(32) % 2
    images = 0.3 * RNG.normal(size=(32, 6, 6, 1)).astype(np.float32)
    images[labels == 1] += 1.0
    model = models.anode((6, 6, 1), 2, filters=4, augment=1, regularizers={"kineticenergy": 0.01})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"], jit_compile=False)
    history = model.fit(images, labels, batch_size=8, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


@pytest.mark.parametrize("options", [{"filters": 0}, {"augment": -1}, {"tol": 0.0}], ids=str)
def test_anode_refuses(options):
    with pytest.raises(ValueError, match="Received"):
        models.anode(**options)


# ode_tuned


def test_ode_tuned_size():
    """Below the 0.22 million parameters of the published network."""
    model = models.ode_tuned()
    assert model.count_params() == 158_898
    assert trainable(model) == 156_818
    blocks = [layer for layer in model.layers if isinstance(layer, ODEBlock)]
    assert [b.output.shape for b in blocks] == [(None, 14, 14, 48), (None, 7, 7, 64)]
    assert sum(trainable(b.dynamics) for b in blocks) == 117_664
    assert all(type(b.solver) is solvers.Midpoint for b in blocks)
    assert not any(isinstance(layer, ODEBlock) for layer in models.ode_tuned(block=False).layers)


def test_ode_tuned_is_saved_in_half_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = models.ode_tuned((8, 8, 1), 3, filters=3)
    images = RNG.normal(size=(4, 8, 8, 1)).astype(np.float32)
    expected = model(images, training=True)  # Which gives the norms averages.
    assert expected.dtype == tf.float32
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


# resnet18


@pytest.fixture(scope="module")
def resnets():
    return {stem: models.resnet18(stem=stem) for stem in ("imagenet", "small")}


def test_resnet18_parameters(resnets):
    """The original has 11,689,512 with 3 channels and 1000 classes; trainable, without averages."""
    expected = 11_689_512 - (512 * 1000 + 1000) + (512 * 10 + 10) - 49 * 2 * 64
    assert trainable(resnets["imagenet"]) == expected == 11_175_370
    averages = resnets["imagenet"].count_params() - expected
    assert averages == 2 * 4800
    assert trainable(resnets["small"]) == expected - (49 - 9) * 64


def test_resnet18_shapes(resnets):
    for stem, size in (("imagenet", 7), ("small", 28)):
        model = resnets[stem]
        assert (model.input_shape, model.output_shape) == ((None, 28, 28, 1), (None, 10))
        sums = [x.output.shape for x in model.layers if isinstance(x, keras.layers.Add)]
        sizes = [-(-size // 2**stage) for stage in range(4)]
        assert sums == [
            (None, s, s, 64 * 2**stage) for stage, s in enumerate(sizes) for _ in range(2)
        ]
        assert model.layers[-1].activation is keras.activations.linear
    convolution = next(x for x in resnets["imagenet"].layers if isinstance(x, keras.layers.Conv2D))
    assert (convolution.kernel_size, convolution.strides) == ((7, 7), (2, 2))
    assert convolution.output.shape == (None, 14, 14, 64)


def test_resnet18_runs(resnets):
    outputs = resnets["imagenet"](np.ones((1, 28, 28, 1), np.float32))
    assert outputs.shape == (1, 10)
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("stem", ["Small", None, "cifar"])
def test_resnet18_refuses(stem):
    with pytest.raises(ValueError, match="'imagenet', 'small'.*Received"):
        models.resnet18(stem=stem)


# Mixed precision


def test_logits_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    odenet = models.odenet((12, 12, 1), 3, filters=4)
    assert block_of(odenet).compute_dtype == "bfloat16"
    assert block_of(odenet).output.dtype == "bfloat16"
    outputs = odenet(np.ones((1, 12, 12, 1), np.float32))
    assert outputs.dtype == tf.float32
    resnet = models.resnet18((28, 28, 1))
    assert resnet.output.dtype == "float32"
    assert resnet.layers[-2].output.dtype == "bfloat16"
