"""A recurrent network that is told the gaps of a time series.

Command: python train.py --model=gru --dataset=japanese_vowels --config.data.missing=0.5
Expected: 97.8 % test accuracy without missing points and 96.2 % with 70 % missing, the means of
five seeds; about a second an epoch on two cores.
"""

from tfnode.lab.model_settings.gru import GruSettings
from tfnode.lab.settings import SeriesSettings, Settings


def get_config() -> Settings:
    """Return a GRU of 7,693 parameters."""
    return Settings(
        name="gru",
        dataset="japanese_vowels",
        epochs=30,
        batch_size=32,
        learning_rate=1e-2,
        schedule="one_cycle",
        data=SeriesSettings(missing=0.0),
        model=GruSettings(units=34, cell="gru", noise=0.6),
    )
