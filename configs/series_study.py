"""Classifiers of measured time series, by the rate of points that are missing.

Command: python -m tfnode.study configs/series_study.py --out=logs/series/japanese_vowels
The basic motions need `pip install -e '.[series]'`:
    python -m tfnode.study configs/series_study.py:basic_motions --out=logs/series/basic_motions
Both, with the figure of accuracy by missing points: python -m tfnode.reproduce.series --seeds=5
"""

from typing import Any

from tfnode.configs import cnn1d, gru, linear_series, neural_cde, ode_rnn
from tfnode.lab.settings import SeriesSettings

MODELS = {
    "neural_cde": neural_cde,
    "neural_cde_hermite": neural_cde,  # The control of the paper.
    "ode_rnn": ode_rnn,
    "gru": gru,
    "cnn1d": cnn1d,
    "linear_series": linear_series,
}
MISSING = (0.0, 0.3, 0.5, 0.7)
# The parameters of the models are as many within a fifth. Other data need other widths for that.
WIDTHS: dict[str, dict[str, dict[str, int]]] = {
    "japanese_vowels": {},
    "basic_motions": {
        "ode_rnn": {"units": 26, "hidden_units": 24},
        "gru": {"units": 29},
        "cnn1d": {"filters": 13},
    },
}


def get_config(dataset: str = "japanese_vowels") -> dict[str, Any]:
    """Return five seeds of each model at four rates of missing points."""
    models = {}
    for name, file in MODELS.items():
        for missing in MISSING:
            config = file.get_config()
            config.dataset = dataset
            if name == "neural_cde_hermite":
                config.model.path, config.model.noise = "hermite", 0.0
            config.data = SeriesSettings(missing=missing)
            for width, value in WIDTHS[dataset].get(name, {}).items():
                setattr(config.model, width, value)
            models[f"{name}_{round(100 * missing)}"] = config
    return {"seeds": (0, 1, 2, 3, 4), "models": models}
