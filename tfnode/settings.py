"""What settings may be, checked without TensorFlow."""

CHOICES = {
    "dataset": ("auto", "mnist", "digits"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "strategy": ("none", "mirrored"),
    "model.name": ("odenet", "resnet18"),
}

# Name: lowest and highest value.
RANGES = {
    "epochs": (1, 2**31 - 1),
    "batch_size": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
    "learning_rate": (1e-30, 1e30),
}


def names(config, prefix=""):
    """The names of all settings, with dots."""
    result = []
    for name, value in config.items():
        nested = hasattr(value, "items")
        result += names(value, f"{prefix}{name}.") if nested else [prefix + name]
    return result


def check(config):
    """Refuses unknown choices and numbers out of range.

    Raises:
        ValueError: Naming the setting, what it may be, and what was received.
    """
    for name, valid in CHOICES.items():
        value = config.model.name if name == "model.name" else config[name]
        if value not in valid:
            raise ValueError(
                f"{name} must be one of {', '.join(valid)}. Received: {name}={value!r}"
            )
    for name, (low, high) in RANGES.items():
        value = config[name]
        kind = int if isinstance(low, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            raise ValueError(
                f"{name} must be a number from {low} to {high}. Received: {name}={value!r}"
            )
