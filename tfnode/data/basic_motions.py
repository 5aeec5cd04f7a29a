"""Basic motions: four activities, told apart by the sensors of a watch."""

from tfnode.data import aeon_files
from tfnode.data.series import Series, prepare

SHA256 = (
    "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
)
# A tenth of a second, in units of ten seconds. A series is one unit long.
STEP = 0.01


def load(missing: float = 0.0) -> Series:
    """Load the basic motions: 40 series for training and 40 for testing.

    Each has 100 points, a tenth of a second apart, of 6 channels: acceleration and angular
    velocity along three axes. The class is standing, running, walking or badminton. One unit of
    time is ten seconds. The package aeon has the files: `pip install 'tfnode[series]'`.

    Args:
        missing: Rate of points that are dropped, from 0 to 0.9; see `tfnode.data.series.prepare`.

    Raises:
        ValueError: If the rate is out of range.
        DataError: If aeon is not installed.

    Reference: Bagnall et al., *The UEA Multivariate Time Series Classification Archive* (2018).
    """
    train, test = aeon_files.read("BasicMotions", SHA256)
    return prepare("basic_motions", "aeon's files", train, test, step=STEP, missing=missing)
