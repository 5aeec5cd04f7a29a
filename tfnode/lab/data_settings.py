"""The settings of data sets that have some."""

from typing import Annotated

from pydantic import Field

from tfnode.lab.section import Section


class SpiralsSettings(Section):
    """The settings of the data set of spirals."""

    points: Annotated[int, Field(ge=2, le=100)] = Field(100, description="Points observed.")
    noise: Annotated[float, Field(ge=1e-6, le=1e6)] = Field(
        0.3, description="Standard deviation of the noise."
    )


class SeriesSettings(Section):
    """The settings of time series that were measured."""

    missing: Annotated[float, Field(ge=0.0, le=0.9)] = Field(
        0.0, description="Rate of points that are dropped."
    )


# The kinds of data, see `tfnode.data.KINDS`, that have settings.
DATA: dict[str, type[Section]] = {"spirals": SpiralsSettings, "series": SeriesSettings}
