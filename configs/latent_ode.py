"""The latent ODE of Chen et al. on bidirectional spirals.

Command: python train.py --model=latent_ode --config.data.points=30
"""

import ml_collections

from configs import base


def get_config():
    """The published sizes, 20 hidden units and 25 in the recurrent network.

    What is not as published: 3 latent dimensions instead of 4, a GRU, a linear decoder, and
    dynamics with two hidden layers.
    """
    config = base.get_config()
    config.name = "latent_ode"
    config.epochs = 500
    config.batch_size = 20
    config.schedule = "one_cycle"
    config.learning_rate = 1e-2
    # Small matrices are several times faster with XLA.
    config.jit_compile = True
    config.data = ml_collections.ConfigDict({"points": 100, "noise": 0.3})
    config.model = ml_collections.ConfigDict(
        {
            "name": "latent_ode",
            "latent_units": 3,
            "hidden_units": 20,
            "rnn_units": 25,
            "cell": "gru",
            "decoder_units": 0,
            "duration": 3.77,
            "scale": 5.0,
            "tol": 1e-3,
            "gradient": "checkpoint",
        }
    )
    return config
