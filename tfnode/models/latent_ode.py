"""`latent_ode`: a time series as the trajectory of a latent state."""

from typing import Any

import keras
import numpy as np

from tfnode import solvers
from tfnode.layers import BackwardEncoder, GaussianSampling, ODEBlock


def latent_ode(
    input_shape: tuple[int, int] = (100, 3),
    *,
    latent_units: int = 3,
    hidden_units: int = 20,
    rnn_units: int = 25,
    cell: str = "gru",
    decoder_units: int = 0,
    duration: float = 3.77,
    scale: float = 5.0,
    tol: float = 1e-3,
    gradient: Any = "checkpoint",
) -> keras.Model:
    """Return the latent ODE of Chen et al., a variational autoencoder of time series.

    ```
    observed points -> RNN, backward in time -> q(z0) -> ODE on [0, 2] windows -> decoder
    ```

    The recurrent network gives mean and variance of the latent state at the first time of the
    window. From there the state follows an ODE that does not depend on the time. It is decoded
    at the times of the window and as many behind it, each by itself. In training the first
    state is drawn at random, and its divergence from `N(0, 1)` is added to the loss. With
    `tfnode.losses.GaussianLikelihood` that is the negative evidence lower bound.

    The layers "encoder", "distribution", "initial_state", "ode" and "decoder" can be called
    by themselves, the ODE at any times: see `docs/time_series.md`.

    Args:
        input_shape: `(times, channels + 1)`, equidistant times, the last channel 1 where the
            time is observed and 0 where it is not.
        latent_units: Dimensions of the latent state, 4 as published.
        hidden_units: Of each of the two hidden layers of the dynamics.
        rnn_units: Of the recurrent network.
        cell: Of the recurrent network: `"gru"`, or `"simple"` as published.
        decoder_units: Of the decoder's hidden layer, 20 as published; 0 for a linear decoder.
            Forecasts are far better with that: states that look the same are then near each
            other, and the trajectory goes on where others have been.
        duration: Of the window, in the time of the ODE.
        scale: What channels are divided by, so that the networks have numbers near 1.
        tol: Relative and absolute tolerance of the solver, `tfnode.solvers.Dopri5`.
        gradient: See `tfnode.gradients`.

    Returns:
        A `keras.Model` from `input_shape` to `(2 * times, channels)`.

    Raises:
        ValueError: If an option is unknown or out of range.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 5.
    """
    times, channels = input_shape[0], input_shape[1] - 1
    inputs = keras.Input(input_shape)  # (100, 3)
    # The last channel, which says what is observed, stays.
    x = keras.layers.Rescaling([1.0 / scale] * channels + [1.0])(inputs)
    x = BackwardEncoder(rnn_units, cell, name="encoder")(x)  # (25,)
    x = keras.layers.Dense(2 * latent_units, name="distribution", dtype="float32")(x)
    z = GaussianSampling(name="initial_state")(x)  # (3,)
    dynamics = keras.Sequential(
        [
            keras.Input((latent_units,)),
            keras.layers.Dense(hidden_units, "tanh"),
            keras.layers.Dense(hidden_units, "tanh"),
            keras.layers.Dense(latent_units),
        ],
        name="dynamics",
    )
    z = ODEBlock(
        dynamics,
        solvers.Dopri5(rtol=tol, atol=tol),
        gradient,
        times=np.arange(2 * times) * (duration / times),
        return_sequences=True,
        name="ode",
    )(z)  # (200, 3)
    decoder = keras.Sequential([keras.Input((None, latent_units))], name="decoder")
    if decoder_units:
        decoder.add(keras.layers.Dense(decoder_units, "relu"))
    decoder.add(keras.layers.Dense(channels, dtype="float32"))
    decoder.add(keras.layers.Rescaling(scale, dtype="float32"))
    return keras.Model(inputs, decoder(z), name="latent_ode")  # (200, 2)
