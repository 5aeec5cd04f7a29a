"""Evaluations of an adaptive solver over training, by the weight of the regularisers.

Command: python -m tfnode.study configs/rnode_study.py --out=logs/rnode
"""

from typing import Any

from tfnode.configs import rnode

# Weights of the kinetic energy and of the Jacobian.
WEIGHTS = {
    "unregularized": (0.0, 0.0),
    "rnode": (0.01, 0.01),
    "rnode_strong": (0.1, 0.1),
}


def get_config() -> dict[str, Any]:
    """Return a small network on scikit-learn's digits, without normalisation in the dynamics.

    Group normalisation fixes the speed of the state, and so the evaluations, from the start.
    """
    models = {}
    for name, (kinetic_energy, jacobian) in WEIGHTS.items():
        config = rnode.get_config()
        config.dataset = "digits"
        config.epochs = 15
        config.learning_rate = 3e-3
        config.model.filters = 16
        config.model.norm = None
        config.model.tol = 1e-4
        config.model.regularizers.kineticenergy = kinetic_energy
        config.model.regularizers.jacobianfrobenius = jacobian
        models[name] = config
    return {"seeds": (0, 1, 2), "models": models}
