"""The optimizer that a config asks for."""

import keras

# Of the steps of a run that warm up, and what the learning rate is divided by at the first.
WARM_UP = 0.25
START = 25.0
# Weights of one dimension, which weight decay would only pull out of their norms' ranges.
WITHOUT_DECAY = ("bias", "gamma", "beta")


def optimizer(config, steps):
    """Adam, or AdamW where there is weight decay, as the settings of a run say.

    Args:
        config: The settings of a run, see `configs/base.py`: `learning_rate`, `schedule`,
            `weight_decay`, `ema`.
        steps: Of the whole run, an int.

    Returns:
        A `keras.optimizers.Optimizer`. Its learning rate depends on its own count of steps
        alone, so that a resumed run has the same.
    """
    rate = config.learning_rate
    if config.get("schedule", "constant") == "one_cycle":
        rate = one_cycle(rate, steps)
    average = config.get("ema", 0.0)
    # Without a momentum, Keras takes its own for something that is not used.
    averaging = {"use_ema": True, "ema_momentum": average} if average else {}
    if not config.get("weight_decay", 0.0):
        return keras.optimizers.Adam(rate, **averaging)
    result = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **averaging)
    result.exclude_from_weight_decay(var_names=WITHOUT_DECAY)
    return result


def one_cycle(peak, steps):
    """A learning rate that rises to `peak` in a straight line, then falls to 0 by a cosine.

    It starts at `peak / 25` and has the peak after a quarter of the steps.

    Reference: Smith, Topin, *Super-Convergence* (2018); the cosine is that of Loshchilov,
    Hutter, *SGDR* (2017).
    """
    warm_up = round(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / START, max(steps - warm_up, 1), warmup_target=peak, warmup_steps=warm_up
    )


def last_learning_rate(optimizer) -> float:
    """The learning rate of the step that an optimizer took last."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # Of half precision.
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # Keras's own `learning_rate` is that of the next step.
        rate = rate(keras.ops.maximum(optimizer.iterations - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))
