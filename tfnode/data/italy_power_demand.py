"""Italy's demand for power: the days of summer and winter, told apart by their hours."""

from tfnode.data import aeon_files
from tfnode.data.series import Series, prepare

SHA256 = (
    "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
    "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
)
STEP = 1 / 24  # Days.


def load(missing: float = 0.0) -> Series:
    """Load the demand for power in Italy: 67 days for training and 1,029 for testing.

    Each is a series of 24 hours of one channel. The class is the half of the year: October to
    March, or April to September. One unit of time is a day. The package aeon has the files:
    `pip install 'tfnode[series]'`.

    Args:
        missing: Rate of points that are dropped, from 0 to 0.9; see `tfnode.data.series.prepare`.

    Raises:
        ValueError: If the rate is out of range.
        DataError: If aeon is not installed.

    Reference: Keogh, Wei, Xi, Lonardi, Shieh, Sirowy, *Intelligent Icons: Integrating Lite-Weight
    Data Mining and Visualization into GUI Operating Systems* (2006).
    """
    train, test = aeon_files.read("ItalyPowerDemand", SHA256)
    return prepare("italy_power_demand", "aeon's files", train, test, step=STEP, missing=missing)
