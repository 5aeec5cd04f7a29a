"""The Neural ODE classifier for the best accuracy per parameter and second.

Command: python train.py --model=ode_tuned
"""

import ml_collections

from configs import base


def get_config():
    """Chosen on a validation split of MNIST's training set; see the docs."""
    config = base.get_config()
    config.name = "ode_tuned"
    config.precision = "mixed_bfloat16"
    config.learning_rate = 4e-3
    config.schedule = "one_cycle"
    config.weight_decay = 1e-2
    config.ema = 0.995
    config.augmentation.update({"shift": 2.0, "rotation": 10.0, "zoom": 0.1})
    config.model = ml_collections.ConfigDict(
        {
            "name": "ode_tuned",
            "block": True,
            "filters": 48,
            "norm": "batch",
            "solver": "midpoint",
            "gradient": "backprop",
        }
    )
    return config
