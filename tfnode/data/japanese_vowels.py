"""Japanese vowels: nine speakers, told apart by the sound of /ae/.

The file `japanese_vowels.npz` beside this one has the data of Kudo, Toyama and Shimbo, *Japanese
Vowels*, UCI Machine Learning Repository (1999), doi:10.24432/C5NS47, under the licence CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/. Its numbers are the published ones in millionths.
"""

import hashlib
import importlib.resources
import io

import numpy as np

from tfnode.data.folder import DataError
from tfnode.data.series import Series, prepare

FILE = "japanese_vowels.npz"
SHA256 = "1d9cc4fc37927cd1818c4d8a4bdbbb1c2659fd371245b4385422c5a874e140b3"
TRAINING_SAMPLES = 270
# A frame every 6.4 ms, in units of a tenth of a second. An utterance is about one unit long.
STEP = 0.064


def load(missing: float = 0.0) -> Series:
    """Load the Japanese vowels: 270 utterances for training and 370 for testing.

    Each is a series of 7 to 29 frames, 6.4 ms apart, of 12 coefficients of its spectrum (LPC
    cepstrum). The class is one of nine speakers. One unit of time is a tenth of a second.

    Args:
        missing: Rate of points that are dropped, from 0 to 0.9; see `tfnode.data.series.prepare`.

    Raises:
        ValueError: If the rate is out of range.
        DataError: If the file of the package was changed.

    Reference: Kudo, Toyama, Shimbo, *Multidimensional Curve Classification Using
    Passing-Through Regions* (1999).
    """
    content = importlib.resources.files("tfnode.data").joinpath(FILE).read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != SHA256:
        raise DataError(
            f"Expected {FILE} of tfnode with the SHA-256 {SHA256}. Received: {received}. "
            "Install tfnode again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        values, lengths, speakers = (file[name] for name in ("millionths", "lengths", "speakers"))
    utterances = np.split(values * 1e-6, np.cumsum(lengths[:-1], dtype=int))
    train, test = (
        (utterances[part], speakers[part])
        for part in (slice(TRAINING_SAMPLES), slice(TRAINING_SAMPLES, None))
    )
    return prepare("japanese_vowels", FILE, train, test, step=STEP, missing=missing)
