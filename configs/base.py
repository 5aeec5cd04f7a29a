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
    config.seed = 0
    config.strategy = "none"
    config.precision = "float32"
    config.deterministic = False
    # XLA makes convolutions slower on CPUs.
    config.jit_compile = False
    return config
