"""A convolutional network on a grid of a measured time series.

Command: python train.py --model=cnn1d --dataset=japanese_vowels --config.data.missing=0.5
Expected: 97.9 % test accuracy without missing points and 95.7 % with 70 % missing, the means of
five seeds; about a second an epoch on two cores.
"""

from tfnode.lab.model_settings.cnn1d import Cnn1dSettings
from tfnode.lab.settings import SeriesSettings, Settings


def get_config() -> Settings:
    """Return a network of 7,641 parameters."""
    return Settings(
        name="cnn1d",
        dataset="japanese_vowels",
        epochs=30,
        batch_size=32,
        learning_rate=1e-2,
        schedule="one_cycle",
        data=SeriesSettings(missing=0.0),
        model=Cnn1dSettings(filters=16, noise=0.6),
    )
