"""Settings to search for the Neural ODE on scikit-learn's digits.

Command: python -m tfnode.tune configs/tune.py --out=logs/tune
"""

from typing import Any


def get_config() -> dict[str, Any]:
    """Return a search, judged on a fifth of the training set.

    `tfnode.lab.search_space.read_config` has the form.
    """
    return {
        "model": "ode",
        "settings": {"dataset": "digits", "epochs": 10, "validation": 0.2},
        "search": {
            "learning_rate": {"low": 3e-4, "high": 3e-2, "log": True},
            "batch_size": {"choices": (32, 64, 128)},
            "model.filters": {"low": 8, "high": 24, "step": 8},
            "model.norm": {"choices": ("batch", "group", "layer")},
            "model.solver": {"choices": ("euler", "midpoint", "rk4", "rk38")},
            "model.num_steps": {"low": 1, "high": 3},
            "model.augment": {"choices": (0, 4)},
        },
        "trials": 20,
        "seed": 0,
    }
