"""Bidirectional spirals: noisy pieces of two curves, seen at irregular times."""

from typing import Any, NamedTuple

import numpy as np

from tfnode.data.dataset import Dataset

WINDOW = 100
TIME_STEP = 6 * np.pi / 500
TRAINING_SAMPLES, TEST_SAMPLES = 1000, 200
# These are steps. Every piece lies between the centre, 0, and the end of its spiral, 500, with
# the points before it. In testing the points behind it do, too.
TRAINING_STARTS, TEST_STARTS = (100, 400), (100, 300)
TRAINING_SEED, TEST_SEED = 2018, 2019


class Spirals(Dataset):
    """A data set of time series, which need no preparation."""

    __slots__ = ()

    @property
    def score(self) -> str:
        return "rmse"

    @staticmethod
    def inputs(x: Any) -> Any:
        return x


class Pieces(NamedTuple):
    """Pieces of spirals.

    Attributes:
        clockwise: bool, `(pieces,)`, the first of every two.
        path: float64 `(pieces, 300, 2)`, where the spiral is at the 100 points of time before
            the piece, the 100 within and the 100 behind.
        seen: float64 `(pieces, 100, 2)`, the piece with noise.
        observed: bool `(pieces, 100)`, which of its points may be used.
    """

    clockwise: np.ndarray
    path: np.ndarray
    seen: np.ndarray
    observed: np.ndarray


def position(t: np.ndarray, clockwise: np.ndarray) -> np.ndarray:
    """Return the positions of the spirals `r = 0.3 t`, of angle `t` or clockwise `-t`, for `t > 0`.

    The centre is (5, 0), of the clockwise one (-5, 0).

    Returns:
        float64, of the shape of `t` and `clockwise`, which are broadcast, with 2 behind it.
    """
    t, clockwise = np.broadcast_arrays(t, clockwise)
    angle, radius = np.where(clockwise, -t, t), 0.3 * t
    x = radius * np.cos(angle) + np.where(clockwise, -5.0, 5.0)
    return np.stack([x, radius * np.sin(angle)], axis=-1)


def pieces(number: int, starts: tuple[int, int], seed: int, points: int, noise: float) -> Pieces:
    """Cut pieces out of the spirals at random.

    Args:
        number: How many; every second is clockwise.
        starts: The lowest and highest of their first times, in steps.
        seed: Seed of the starts, the noise and the choice of observed points. The points of
            a choice of fewer are among those of more.
        points: How many points of each piece are observed, of 100.
        noise: Standard deviation of the noise of each coordinate.
    """
    generator = np.random.default_rng(seed)
    clockwise = np.arange(number) % 2 == 0
    start = TIME_STEP * generator.uniform(*starts, size=(number, 1))
    path = position(start + TIME_STEP * np.arange(-WINDOW, 2 * WINDOW), clockwise[:, None])
    seen = path[:, WINDOW : 2 * WINDOW]
    seen = seen + noise * generator.normal(size=seen.shape)
    observed = generator.random((number, WINDOW)).argsort().argsort() < points
    return Pieces(clockwise, path, seen, observed)


def held_out(points: int = WINDOW, noise: float = 0.3) -> Pieces:
    """Return the pieces of the test set."""
    return pieces(TEST_SAMPLES, TEST_STARTS, TEST_SEED, points, noise)


def inputs(found: Pieces) -> np.ndarray:
    """Return the inputs of a model for pieces: float32, `(pieces, 100, 3)`; see `load`."""
    observed = found.observed[..., np.newaxis]
    # Coordinates that are not observed are not there at all.
    return np.concatenate([found.seen * observed, observed], axis=-1).astype(np.float32)


def load(points: int = WINDOW, noise: float = 0.3) -> Spirals:
    """Make the bidirectional spirals of Chen et al.: 1,000 for training and 200 for testing.

    Each is a noisy piece of one of two spirals: one turns clockwise, one counter-clockwise. It
    has a start of its own and 100 equidistant times, and is 0.6 of a turn long. Some of the
    times are observed, others for each piece.

    - `x_train`, `x_test`: float32 `(samples, 100, 3)`: the noisy coordinates, 0 where they
      are not observed, and 1 or 0 for whether they are.
    - `y_train`, `y_test`: float32 `(samples, 200, 3)`: coordinates at the 100 times of the
      piece and the 100 behind it, and their weight, 1 or 0. For training these are the
      points observed; for testing the true ones behind the piece, all 100 of them.

    So `tfnode.losses.GaussianLikelihood` and `tfnode.metrics.RootMeanSquaredError` are
    those of the reconstruction in training, and of the forecast in testing.

    The paper gives neither the curves nor the noise. Ours are from torchdiffeq's latent_ode.py:
    its counter-clockwise curve, `r = 0.3 t` up to 3 turns, the mirror image, and its noise.

    Args:
        points: How many points of each piece are observed, from 2 to 100.
        noise: Standard deviation of the noise of each coordinate, at least 0.

    Raises:
        ValueError: If an argument is out of range.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018), section 5.1.
    """
    if isinstance(points, bool) or not isinstance(points, int) or not 2 <= points <= WINDOW:
        raise ValueError(f"`points` must be an int from 2 to {WINDOW}. Received: points={points!r}")
    if not 0.0 <= noise < np.inf:
        raise ValueError(f"`noise` must be a number of at least 0. Received: noise={noise!r}")
    train = pieces(TRAINING_SAMPLES, TRAINING_STARTS, TRAINING_SEED, points, noise)
    test = held_out(points, noise)
    y_train = np.zeros((TRAINING_SAMPLES, 2 * WINDOW, 3), np.float32)
    y_train[:, :WINDOW] = inputs(train)
    y_test = np.zeros((TEST_SAMPLES, 2 * WINDOW, 3), np.float32)
    y_test[:, WINDOW:] = np.insert(test.path[:, 2 * WINDOW :], 2, 1.0, axis=-1)
    source = f"generated, {points} of {WINDOW} points observed, noise {noise:g}"
    return Spirals("spirals", source, inputs(train), y_train, inputs(test), y_test)
