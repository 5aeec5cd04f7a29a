"""Hare and lynx: 91 years of predator and prey.

The table `hare_lynx.csv` beside this file has the pelts of the snowshoe hare and the Canada lynx
that the Hudson's Bay Company took, in thousands a year.
"""

import importlib.resources
from typing import NamedTuple

import numpy as np

FILE = "hare_lynx.csv"


class HareLynx(NamedTuple):
    """The table.

    Attributes:
        years: int64, `(91,)`, from 1845 to 1935.
        pelts: float64, `(91, 2)`, thousands of hares and of lynxes.
    """

    years: np.ndarray
    pelts: np.ndarray


def load() -> HareLynx:
    """Load the pelts of hare and lynx, a year a row.

    The numbers before 1903 are catches of the company, and later ones rest on questionnaires as
    well. They say how many animals were caught, which is not how many there were.

    Reference: MacLulich, *Fluctuations in the Numbers of the Varying Hare (Lepus americanus)*
    (1937); Leigh, *The Ecological Role of Volterra's Equations* (1968).
    """
    text = importlib.resources.files("tfnode.data").joinpath(FILE).read_text()
    table = np.genfromtxt(text.splitlines(), delimiter=",", skip_header=3)
    return HareLynx(table[:, 0].astype(np.int64), table[:, 1:])
