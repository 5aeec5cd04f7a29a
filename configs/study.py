"""Models by seeds on scikit-learn's digits: the paper's two, two of the literature, two controls.

Command: python -m tfnode.study configs/study.py --out=logs/study
The same on MNIST with the paper's settings, for a GPU:
    python -m tfnode.study configs/study.py:mnist --out=logs/study_mnist
"""

from typing import Any

from tfnode.configs import ode, resnet
from tfnode.lab.model_settings.base import Regularizers


def get_config(dataset: Any = "digits") -> dict[str, Any]:
    """Return three seeds of six models; small ones for the few digits."""
    models = {
        "ode": ode.get_config(),
        "resnet": resnet.get_config(),
        "anode": ode.get_config(),
        "rnode": ode.get_config(),
        # The network without its ODE block, and with a residual block in its place.
        "no_block": ode.get_config(),
        "residual": ode.get_config(),
    }
    models["anode"].model.augment = 5
    models["rnode"].model.regularizers = Regularizers(kineticenergy=0.01, jacobianfrobenius=0.01)
    models["no_block"].model.block = False
    models["residual"].model.solver = "euler"
    models["residual"].model.gradient = "backprop"
    for config in models.values():
        config.dataset = dataset
        if dataset == "digits" and config.model.name == "odenet":
            config.model.filters = 16
            config.learning_rate = 3e-3
    return {"seeds": (0, 1, 2), "models": models}
