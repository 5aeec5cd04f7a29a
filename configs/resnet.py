"""ResNet-18, the paper's baseline.

Command: python train.py --model=resnet
Expected: 99.16 % test accuracy on MNIST after ten epochs, three to four minutes an epoch
on two cores.
"""

from tfnode.lab.model_settings.resnet18 import Resnet18Settings
from tfnode.lab.settings import Settings


def get_config() -> Settings:
    """Return the paper's settings: learning rate 1e-3."""
    return Settings(name="resnet", learning_rate=1e-3, model=Resnet18Settings(stem="imagenet"))
