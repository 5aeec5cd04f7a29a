"""The optimizer of an experiment."""

import keras

from tfnode.lab.settings import Settings

# Fraction of the steps that warm up, and divisor of the learning rate at the first step.
WARM_UP = 0.25
START = 25.0
# These weights have one dimension. Weight decay would pull them out of their norms' ranges.
WITHOUT_DECAY = ("bias", "gamma", "beta")


def optimizer(settings: Settings, steps: int) -> keras.optimizers.Optimizer:
    """Return Adam, or AdamW where there is weight decay, as the settings say.

    Args:
        settings: `learning_rate`, `schedule`, `weight_decay` and `ema` are used.
        steps: The number of steps of the whole run.

    Returns:
        An optimizer. Its learning rate depends on its own count of steps
        alone, so that a resumed run has the same.
    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = settings.learning_rate
    if settings.schedule == "one_cycle":
        rate = one_cycle(settings.learning_rate, steps)
    averaging = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    if not settings.weight_decay:
        return keras.optimizers.Adam(rate, **averaging)
    result = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **averaging)
    result.exclude_from_weight_decay(var_names=WITHOUT_DECAY)
    return result


def one_cycle(peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a learning rate that rises to `peak` in a straight line, then falls to 0 by a cosine.

    It starts at `peak / 25` and has the peak after a quarter of the steps.

    Reference: Smith, Topin, *Super-Convergence* (2018); the cosine is that of Loshchilov,
    Hutter, *SGDR* (2017).
    """
    warm_up = round(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / START, max(steps - warm_up, 1), warmup_target=peak, warmup_steps=warm_up
    )
