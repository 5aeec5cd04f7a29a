"""A recurrent network on bidirectional spirals, the baseline of the latent ODE.

Command: python train.py --model=rnn --config.data.points=30
"""

import ml_collections

from configs import base


def get_config():
    """The published size: 25 units."""
    config = base.get_config()
    config.name = "rnn"
    config.epochs = 500
    config.batch_size = 20
    config.schedule = "one_cycle"
    config.learning_rate = 1e-2
    # Small matrices are several times faster with XLA.
    config.jit_compile = True
    config.data = ml_collections.ConfigDict({"points": 100, "noise": 0.3})
    config.model = ml_collections.ConfigDict(
        {"name": "rnn_forecaster", "units": 25, "cell": "simple", "scale": 5.0}
    )
    return config
