"""The plain Neural ODE of the size of `anode`, which Dupont, Doucet and Teh compare it with.

Command: python train.py --model=node
Expected: published are 96.4 % test accuracy on MNIST, where `anode` has 98.2 %. One step takes
twice as long as a step of `anode` with as many evaluations.
"""

from tfnode.configs import anode
from tfnode.lab.settings import Settings


def get_config() -> Settings:
    """Return `anode` with 92 filters instead of 5 channels of zeros: 85,316 parameters."""
    config = anode.get_config()
    config.name = "node"
    config.model.filters = 92
    config.model.augment = 0
    return config
