"""The latent ODE of Chen et al. on bidirectional spirals.

Command: python train.py --model=latent_ode --config.data.points=30
"""

from tfnode.lab.model_settings.latent_ode import LatentOdeSettings
from tfnode.lab.settings import Settings, SpiralsSettings


def get_config() -> Settings:
    """Return the published sizes, 20 hidden units and 25 in the recurrent network.

    These differ from the published ones: 3 latent dimensions instead of 4, a GRU, a linear
    decoder, and dynamics with two hidden layers.
    """
    return Settings(
        name="latent_ode",
        epochs=500,
        batch_size=20,
        schedule="one_cycle",
        learning_rate=1e-2,
        jit_compile=True,
        data=SpiralsSettings(points=100, noise=0.3),
        model=LatentOdeSettings(
            latent_units=3,
            hidden_units=20,
            rnn_units=25,
            cell="gru",
            decoder_units=0,
            duration=3.77,
            scale=5.0,
            tol=1e-3,
            gradient="checkpoint",
        ),
    )
