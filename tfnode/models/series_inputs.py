"""The inputs and the end of the classifiers of time series."""

from typing import Any

import keras

from tfnode import checks

TIMES = "times"  # The name of the input.


def series_inputs(input_shape: tuple[int | None, int]) -> tuple[Any, Any]:
    """Return the inputs of a classifier: values `(n, channels)` and times `(n,)`.

    Raises:
        ValueError: If the shape is none of a series.
    """
    if len(input_shape) != 2 or input_shape[1] is None:
        raise ValueError(
            f"`input_shape` must be (n, channels). Received: input_shape={input_shape}"
        )
    values = keras.Input(input_shape, name="values")
    # Half precision would round times.
    return values, keras.Input(input_shape[:1], name=TIMES, dtype="float32")


def noisy(values: Any, noise: float) -> Any:
    """Return the values with normal noise in training. A missing value stays missing.

    Args:
        values: The input.
        noise: Standard deviation of the noise; 0 for none.

    Raises:
        ValueError: If the noise is negative or not finite.
    """
    noise = checks.real("noise", noise, "a finite number of at least 0", least=0.0)
    if not noise:
        return values
    # Half precision would round the values.
    return keras.layers.GaussianNoise(noise, dtype="float32", name="noise")(values)


def classifier(name: str, inputs: tuple[Any, Any], features: Any, num_classes: int) -> keras.Model:
    """Return a model from inputs to the logits of a linear layer on features."""
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(features)
    return keras.Model(inputs, logits, name=name)
