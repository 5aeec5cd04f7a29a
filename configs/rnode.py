"""The Neural ODE classifier with regularised dynamics and an adaptive solver.

Command: python train.py --model=rnode
The same without regularisers, to compare with (a weight of 0 costs nothing):
    python train.py --model=rnode --config.name=unregularized \
        --config.model.regularizers.kineticenergy=0.0 \
        --config.model.regularizers.jacobianfrobenius=0.0
Expected: one step on two cores takes 2.5 to 3 s, with 40 evaluations each way, so an epoch of
MNIST 40 minutes; of scikit-learn's digits, --dataset=digits, one minute.
"""

import ml_collections

from configs import base


def get_config():
    """Both weights 0.01, as published; group normalisation, which any solver's times suit."""
    config = base.get_config()
    config.name = "rnode"
    config.model = ml_collections.ConfigDict(
        {
            "name": "odenet",
            "filters": 64,
            "norm": "group",
            "solver": "dopri5",
            "tol": ml_collections.config_dict.placeholder(float),
            "gradient": "adjoint",
            "augment": 0,
            "regularizers": {"kineticenergy": 0.01, "jacobianfrobenius": 0.01},
        }
    )
    return config
