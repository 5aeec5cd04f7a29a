"""Settings that all models share: the paper's."""

from tfnode.lab.settings import Settings


def get_config() -> Settings:
    """Return ten epochs of Adam on batches of 64, without a schedule: the defaults."""
    return Settings()
