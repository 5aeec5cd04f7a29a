"""ResNet-18, the paper's baseline.

Command: python train.py --model=resnet
Expected: 99.16 % test accuracy on MNIST after ten epochs, three to four minutes an epoch
on two cores.
"""

import ml_collections

from configs import base


def get_config():
    """The paper's settings: learning rate 1e-3."""
    config = base.get_config()
    config.name = "resnet"
    config.learning_rate = 1e-3
    config.model = ml_collections.ConfigDict({"name": "resnet18", "stem": "imagenet"})
    return config
