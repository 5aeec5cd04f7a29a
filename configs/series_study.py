"""Classifiers of measured time series, by the rate of points that are missing.

Command: python -m tfnode.study configs/series_study.py --out=logs/series/japanese_vowels
The basic motions need `pip install -e '.[series]'`:
    python -m tfnode.study configs/series_study.py:basic_motions --out=logs/series/basic_motions
Both, with the figure of accuracy by missing points: python -m tfnode.reproduce.series --seeds=5
"""

from typing import Any

from tfnode.configs import cnn1d, gru, linear_series, neural_cde, ode_rnn
from tfnode.lab.settings import SeriesSettings

FILES = {
    "neural_cde": neural_cde,
    "neural_cde_hermite": neural_cde,
    "ode_rnn": ode_rnn,
    "gru": gru,
    "cnn1d": cnn1d,
    "linear_series": linear_series,
}
# The models of each data set, with what differs from their files. The parameters of the models are
# as many within a fifth, for which other data need other widths. The path "hermite" is the paper's.
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "japanese_vowels": {
        "neural_cde": {},
        "neural_cde_hermite": {"path": "hermite", "noise": 0.0},
        "ode_rnn": {},
        "gru": {},
        "cnn1d": {},
        "linear_series": {},
    },
    "basic_motions": {
        "neural_cde": {},
        "ode_rnn": {"units": 26, "hidden_units": 24},
        "gru": {"units": 29},
        "cnn1d": {"filters": 13},
        "linear_series": {},
    },
}
# With 40 series an epoch has three steps.
TRAINING: dict[str, dict[str, int]] = {
    "japanese_vowels": {},
    "basic_motions": {"epochs": 40, "batch_size": 16},
}
MISSING = (0.0, 0.3, 0.5, 0.7)


def get_config(dataset: str = "japanese_vowels") -> dict[str, Any]:
    """Return five seeds of each model at four rates of missing points."""
    models = {}
    for name, changes in MODELS[dataset].items():
        for missing in MISSING:
            config = FILES[name].get_config()
            config.dataset = dataset
            config.data = SeriesSettings(missing=missing)
            for setting, value in TRAINING[dataset].items():
                setattr(config, setting, value)
            for setting, value in changes.items():
                setattr(config.model, setting, value)
            models[f"{name}_{round(100 * missing)}"] = config
    return {"seeds": (0, 1, 2, 3, 4), "models": models}
