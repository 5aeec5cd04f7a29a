"""The paper's Neural ODE classifier.

Command: python train.py --model=ode
The controls that belong beside it, without the ODE block and with a residual block in its place:
    python train.py --model=ode --config.name=no_block --config.model.block=False
    python train.py --model=ode --config.name=residual --config.model.solver=euler \
        --config.model.gradient=backprop
Expected: 98.85 % test accuracy on MNIST after ten epochs, 150 to 300 s an epoch on
two cores, by what else they do.
"""

import ml_collections

from configs import base


def get_config():
    """The paper's settings: learning rate 1e-4, one Runge-Kutta step, the adjoint."""
    config = base.get_config()
    config.name = "ode"
    config.learning_rate = 1e-4
    config.model = ml_collections.ConfigDict(
        {
            "name": "odenet",
            "block": True,
            "filters": 64,
            "norm": "batch",
            "solver": "rk38",
            "num_steps": ml_collections.config_dict.placeholder(int),
            "tol": ml_collections.config_dict.placeholder(float),
            "gradient": "adjoint",
            "augment": 0,
        }
    )
    return config
