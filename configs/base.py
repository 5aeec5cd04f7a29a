"""Settings that all models share: the paper's."""

import ml_collections


def get_config():
    """Ten epochs of Adam on batches of 64, without a schedule."""
    config = ml_collections.ConfigDict()
    config.name = ml_collections.config_dict.placeholder(str)
    config.dataset = "auto"
    config.epochs = 10
    config.batch_size = 64
    config.learning_rate = 1e-3
    config.schedule = "constant"
    config.weight_decay = 0.0
    # Momentum of an exponential average of the weights, which is then what is tested and saved.
    config.ema = 0.0
    # Of training images at random: pixels, degrees, and a fraction of the size.
    config.augmentation = ml_collections.ConfigDict({"shift": 0.0, "rotation": 0.0, "zoom": 0.0})
    # Fraction of the training set that is held out. The columns val_* are of that then, and the
    # test set is looked at once, at the end.
    config.validation = 0.0
    config.seed = 0
    config.strategy = "none"
    config.precision = "float32"
    config.deterministic = False
    # XLA makes convolutions slower on CPUs.
    config.jit_compile = False
    return config
