"""A linear classifier on a grid of a measured time series.

Command: python train.py --model=linear_series --dataset=japanese_vowels --config.data.missing=0.5
Expected: 97.8 % test accuracy without missing points and 91.1 % with 70 % missing, the means of
five seeds; about a second an epoch on two cores.
"""

from tfnode.lab.model_settings.linear_series import LinearSeriesSettings
from tfnode.lab.settings import SeriesSettings, Settings


def get_config() -> Settings:
    """Return a classifier of 6,273 parameters."""
    return Settings(
        name="linear_series",
        dataset="japanese_vowels",
        epochs=30,
        batch_size=32,
        learning_rate=3e-3,
        schedule="one_cycle",
        data=SeriesSettings(missing=0.0),
        model=LinearSeriesSettings(),
    )
