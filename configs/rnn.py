"""A recurrent network on bidirectional spirals, the baseline of the latent ODE.

Command: python train.py --model=rnn --config.data.points=30
"""

from tfnode.lab.model_settings.rnn_forecaster import RnnForecasterSettings
from tfnode.lab.settings import Settings, SpiralsSettings


def get_config() -> Settings:
    """Return the published size: 25 units."""
    return Settings(
        name="rnn",
        epochs=500,
        batch_size=20,
        schedule="one_cycle",
        learning_rate=1e-2,
        jit_compile=True,
        data=SpiralsSettings(points=100, noise=0.3),
        model=RnnForecasterSettings(units=25, cell="simple", scale=5.0),
    )
