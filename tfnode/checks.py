"""Checks of numbers that constructors take, of Python or of NumPy."""

import math
import numbers
from typing import Any

import numpy as np


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def integer(name: str, value: Any, least: int, wanted: str | None = None) -> int:
    """Return an argument as an int.

    Args:
        name: The name of the argument, for the error.
        value: What was given.
        least: The smallest value.
        wanted: What is expected, for the error.

    Raises:
        ValueError: If it is no integer or too small.
    """
    if not is_integer(value) or value < least:
        wanted = wanted or f"an int of at least {least}"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return int(value)


def positive(name: str, value: Any, wanted: str = "a positive, finite number") -> float:
    """Return an argument as a float above 0; see `real`."""
    return real(name, value, wanted, above=0.0)


def by_component(
    name: str, value: Any, wanted: str, least: float = -math.inf, above: float = -math.inf
) -> float | tuple[float, ...]:
    """Return an argument as a finite float, or several as a tuple; see `real`."""
    if isinstance(value, numbers.Number) or np.ndim(value) != 1 or not len(value):
        return real(name, value, wanted, least, above)
    return tuple(real(name, x, wanted, least, above) for x in value)


def real(
    name: str, value: Any, wanted: str, least: float = -math.inf, above: float = -math.inf
) -> float:
    """Return an argument as a finite float.

    Args:
        name: The name of the argument, for the error.
        value: What was given.
        wanted: What is expected, for the error.
        least: The smallest value.
        above: A number that the value must exceed.

    Raises:
        ValueError: If it is no real number, not finite, or too small.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least or value <= above:
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return float(value)
