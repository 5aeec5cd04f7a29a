"""What settings may be, checked without TensorFlow."""

import re

CHOICES = {
    "dataset": ("auto", "mnist", "digits"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "strategy": ("none", "mirrored"),
    "deterministic": (False, True),
    "jit_compile": (False, True),
    "model.name": ("odenet", "resnet18"),
    "model.norm": ("batch", "group", "layer", None),
    # Without "bdf", whose dense Jacobian of a batch of images fits into no memory.
    "model.solver": (
        *("euler", "midpoint", "heun", "rk4", "rk38"),
        *("heun21", "bosh3", "dopri5", "tsit5", "dopri8"),
    ),
    "model.gradient": ("adjoint", "checkpoint", "backprop"),
    "model.stem": ("imagenet", "small"),
}

# Name: lowest and highest value.
RANGES = {
    "epochs": (1, 2**31 - 1),
    "batch_size": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
    "learning_rate": (1e-30, 1e30),
    "model.filters": (1, 2**16),
    "model.augment": (0, 2**16),
}

# The settings of each model beside its name, all of which have a default.
MODELS = {
    "odenet": ("filters", "norm", "solver", "gradient", "augment"),
    "resnet18": ("stem",),
}

REQUIRED = ("name", *(name for name in (*CHOICES, *RANGES) if not name.startswith("model.")))


def names(config):
    """The names of all settings, with dots."""
    return list(_flat(config))


def check(config):
    """Refuses unknown settings, unknown choices and numbers out of range.

    Raises:
        ValueError: Naming the setting, what it may be, and what was received.
    """
    settings = _flat(config)
    missing = [name for name in (*REQUIRED, "model.name") if name not in settings]
    if missing:
        raise ValueError(f"Expected the setting {missing[0]}. Received: {' '.join(settings)}")
    if not re.fullmatch(r"\w[\w.-]{0,99}", str(settings["name"]), re.ASCII):
        raise ValueError(
            "name must be made of letters, digits, '_', '-' and '.', since it names a folder. "
            f"Received: name={settings['name']!r}"
        )
    for name, valid in CHOICES.items():
        value = settings.get(name, valid[0])
        # By type too, since 1 equals True.
        if not any(type(value) is type(v) and value == v for v in valid):
            raise ValueError(
                f"{name} must be one of {', '.join(map(str, valid))}. Received: {name}={value!r}"
            )
    for name, (low, high) in RANGES.items():
        value = settings.get(name, low)
        kind = int if isinstance(low, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            raise ValueError(
                f"{name} must be {'an integer' if kind is int else 'a number'} from {low} to "
                f"{high}. Received: {name}={value!r}"
            )
    model = settings["model.name"]
    valid = (*REQUIRED, "model.name", *(f"model.{name}" for name in MODELS[model]))
    unknown = [name for name in settings if name not in valid]
    if unknown:
        raise ValueError(
            f"The model {model} takes the settings {', '.join(valid)}. Received: "
            f"{unknown[0]}={settings[unknown[0]]!r}"
        )


def _flat(config, prefix=""):
    """All settings by their names with dots."""
    result = {}
    for name, value in config.items():
        nested = hasattr(value, "items")
        result.update(_flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return result
