"""Makes the files of this folder: `python tests/saved/make.py NAME...`, or `all` of them.

They stand for what users have saved. A file is made once, by the version that first has what it
holds, and stays as it is: `tests/test_saved.py` loads it with the tfnode of the day. Those of
November 2026 are from version 0.1.0, TensorFlow 2.21.0 and Keras 3.15.1.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import keras
import numpy as np

import tfnode
from tfnode import gradients, layers, losses, metrics, models, regularizers, solvers

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SERIES = (6, 3)


def _block(solver="rk4", gradient="checkpoint", dynamics=None, size=2, **options):
    dynamics = dynamics or keras.Sequential(
        [keras.layers.Dense(3, "tanh"), keras.layers.Dense(size)]
    )
    return keras.Sequential(
        [
            keras.Input((size,), batch_size=4 if solver == "bdf" else None),
            tfnode.ODEBlock(dynamics, solver, gradient, **options),
            keras.layers.Dense(1),
        ]
    )


def _image(*found):
    return keras.Sequential([keras.Input((6, 6, 2)), *found])


def _series(*found):
    return keras.Sequential([keras.Input(SERIES), *found])


def _compiled(model):
    model.compile(
        keras.optimizers.Adam(0.01),
        losses.GaussianLikelihood(0.3),
        weighted_metrics=[metrics.RootMeanSquaredError()],
    )
    return model


def _named(name):
    """Return a case for each solver, so that every name and config is in a file."""
    return lambda: _block(name, "adjoint" if name == "bdf" else "checkpoint")


MODELS = {
    # No layer of tfnode: on a machine where this differs in a bit, the others may.
    "arithmetic": lambda: _series(
        keras.layers.GRU(4, return_sequences=True),
        keras.layers.Conv1D(3, 3, activation="softplus"),
        keras.layers.Dense(2, "tanh"),
    ),
    **{
        f"solver_{name}": _named(name)
        for name in (
            *("euler", "midpoint", "heun", "rk4", "rk38"),
            *("heun21", "bosh3", "dopri5", "tsit5", "dopri8", "bdf"),
        )
    },
    "solver_num_steps": lambda: _block(solvers.RK4(num_steps=3)),
    "solver_step_size": lambda: _block(solvers.Midpoint(step_size=0.3)),
    "solver_tolerances": lambda: _block(
        solvers.Dopri5(rtol=1e-5, atol=1e-7, first_step=0.05, max_steps=500)
    ),
    "gradient_adjoint": lambda: _block(
        "dopri5", gradients.Adjoint(solvers.Tsit5(rtol=1e-4), max_reconstruction_error=20.0)
    ),
    "gradient_checkpoint": lambda: _block("dopri5", gradients.Checkpoint(max_states=16)),
    "gradient_backprop": lambda: _block("rk38", "backprop"),
    "regularizers": lambda: _block(
        "rk4",
        regularizers=[regularizers.KineticEnergy(0.02), regularizers.JacobianFrobenius(0.01)],
    ),
    "sequences": lambda: _block("bosh3", times=(1.0, 0.5, 0.0), return_sequences=True),
    "float64": lambda: _block("dopri5", dtype="float64"),
    "augment": lambda: keras.Sequential(
        [
            keras.Input((2,)),
            layers.Augment(2),
            tfnode.ODEBlock(layers.DenseDynamics([3], "softplus")),
        ]
    ),
    "concat_dense": lambda: _block(dynamics=layers.ConcatDense(2, "tanh")),
    "concat_conv2d": lambda: _image(tfnode.ODEBlock(layers.ConcatConv2D(2, (3, 1), "tanh"))),
    "bottleneck_dynamics": lambda: _image(tfnode.ODEBlock(layers.BottleneckDynamics(3))),
    "conv_dynamics_batch": lambda: _image(tfnode.ODEBlock(layers.ConvDynamics(2, norm="batch"))),
    "conv_dynamics_group": lambda: _image(tfnode.ODEBlock(layers.ConvDynamics(2, norm="group"))),
    "conv_dynamics_group_of_two": lambda: _image(
        keras.layers.Dense(4), tfnode.ODEBlock(layers.ConvDynamics(4, norm="group", group_size=2))
    ),
    "time_batch_normalization": lambda: _image(
        tfnode.ODEBlock(layers.TimeBatchNormalization(knots=3, times=(0.0, 2.0)))
    ),
    "fused_batch_normalization": lambda: _image(layers.FusedBatchNormalization(momentum=0.8)),
    "gaussian_sampling": lambda: keras.Sequential(
        [keras.Input((4,)), layers.GaussianSampling(seed=3)]
    ),
    "backward_encoder_simple": lambda: _series(layers.BackwardEncoder(3)),
    "backward_encoder_gru": lambda: _series(layers.BackwardEncoder(3, "gru")),
    "forecaster": lambda: _series(layers.Forecaster(3, "gru")),
    "ode_rnn": lambda: _series(
        layers.ODERNN(3, layers.DenseDynamics(2), solver="heun", num_steps=2, go_backwards=True)
    ),
    "ode_rnn_simple": lambda: _series(
        layers.ODERNN(3, cell="simple", gradient="backprop", return_sequences=True)
    ),
    "neural_cde": lambda: _series(layers.NeuralCDE(3)),
    "neural_cde_linear": lambda: _series(
        layers.NeuralCDE(2, keras.layers.Dense(8, "tanh"), "linear", "dopri5", rtol=1e-4)
    ),
    "neural_cde_integral": lambda: _series(layers.NeuralCDE(3, path="integral", num_steps=2)),
    "decay_rnn": lambda: _series(layers.DecayRNN(3, return_sequences=True)),
    "series_grid": lambda: _series(layers.SeriesGrid(4)),
    "cnf": lambda: models.cnf((2,), hidden_units=[3], regularizers={"kineticenergy": 0.1}),
    "latent_ode": lambda: _compiled(
        models.latent_ode(SERIES, latent_units=2, hidden_units=3, rnn_units=3)
    ),
    "rnn_forecaster": lambda: _compiled(models.rnn_forecaster(SERIES, units=3)),
    "odenet": lambda: models.odenet((8, 8, 1), 3, filters=2, augment=1),
    "ode_tuned": lambda: models.ode_tuned((8, 8, 1), 3, filters=3),
    "anode": lambda: models.anode((6, 6, 1), 3, filters=2, augment=1),
}


def save(name):
    """Save a model, and beside it some inputs with what the model says of them."""
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    generator = np.random.default_rng(0)
    # Weights that are all different, running averages and biases too.
    for variable in model.variables:
        if "float" in variable.dtype:
            noise = generator.uniform(0.05, 0.2, variable.shape)
            variable.assign(keras.ops.convert_to_numpy(variable) + noise)
    shape = model.sample_shape if name == "cnf" else model.input_shape[1:]
    x = generator.normal(size=(4, *shape)).astype(model.input_dtype)
    if shape == SERIES:
        x[..., -1] = x[..., -1] > 0.0
    model.save(HERE / f"{name}.keras")
    _compress(HERE / f"{name}.keras")
    model.jit_compile = False
    np.savez_compressed(HERE / f"{name}.npz", x=x, y=model.predict(x, verbose=0))


def _compress(path):
    """Pack the members of a file again, which Keras leaves as large as they are."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


def save_run():
    """Save the run of a tiny network after its only epoch; resuming makes it one of two."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run")
        flags = [f"--log_dir={run}", "--dataset=digits", "--epochs=1", "--config.jit_compile=false"]
        flags += ["--config.model.gradient=backprop"]
        flags += ["--config.model.filters=2", "--config.model.solver=euler"]
        subprocess.run([sys.executable, ROOT / "train.py", *flags], check=True, cwd=folder)
        for path in run.rglob("*.keras"):
            _compress(path)
        unread = shutil.ignore_patterns("train", "validation", "curves.png", ".lock")
        shutil.copytree(run, HERE / "run", ignore=unread)


if __name__ == "__main__":
    names = sys.argv[1:]
    for name in [*MODELS, "run"] if names == ["all"] else names:
        save_run() if name == "run" else save(name)
