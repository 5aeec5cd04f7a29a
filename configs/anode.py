"""The augmented Neural ODE of Dupont, Doucet and Teh, which sees the image with nothing before it.

Command: python train.py --model=anode
The plain Neural ODE of the same size: python train.py --model=node
Expected: published are 98.2 % test accuracy on MNIST, and 96.4 % for the plain one, on pixels in
[0, 1], which are normalised here. One step on two cores takes 7 to 9 s, so an epoch half an hour
(the plain one twice to three times that): a model for a GPU. `--config.model.gradient=backprop`,
as published, takes two thirds of that and, with 20 evaluations a solve, several GiB of memory.
"""

from tfnode.lab.model_settings.anode import AnodeSettings
from tfnode.lab.settings import Settings


def get_config() -> Settings:
    """Return the published settings: batches of 256, 20 epochs, Dormand-Prince at 1e-3."""
    model = AnodeSettings(filters=64, augment=5, tol=1e-3, gradient="checkpoint")
    return Settings(name="anode", epochs=20, batch_size=256, model=model)
