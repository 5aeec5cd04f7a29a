"""Densities in the plane to learn, as samples. Imports no TensorFlow."""

import numpy as np


def moons(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return scikit-learn's two moons."""
    from sklearn.datasets import make_moons

    x, _ = make_moons(size, noise=0.1, random_state=int(rng.integers(2**31)))
    return 2.0 * x - [1.0, 0.2]


def circles(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return scikit-learn's two circles."""
    from sklearn.datasets import make_circles

    x, _ = make_circles(size, noise=0.08, factor=0.5, random_state=int(rng.integers(2**31)))
    return 3.0 * x


def pinwheel(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return five bent arms (Johnson et al. 2016)."""
    arms = 5
    radial, tangential = rng.normal(1.0, 0.3, size), rng.normal(0.0, 0.1, size)
    angle = 2.0 * np.pi * rng.integers(arms, size=size) / arms + 0.25 * np.exp(radial)
    cos, sin = np.cos(angle), np.sin(angle)
    return 2.0 * np.stack([radial * cos - tangential * sin, radial * sin + tangential * cos], 1)


SETS = {"moons": moons, "circles": circles, "pinwheel": pinwheel}


def samples(name: str, size: int, seed: int, split: int) -> np.ndarray:
    """Return independent samples, `(size, 2)` in float32.

    All three are at the scale of the code of Grathwohl et al., *FFJORD* (2019).

    Args:
        name: One of `SETS`.
        size: How many.
        seed, split: Other samples for another pair of ints.
    """
    return SETS[name](size, np.random.default_rng([seed, split])).astype(np.float32)
