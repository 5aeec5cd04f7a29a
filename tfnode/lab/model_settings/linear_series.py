"""The settings of `tfnode.models.linear_series`."""

from typing import ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import ModelSettings, Noise, Size


class LinearSeriesSettings(ModelSettings):
    """The settings of the linear classifier of time series."""

    kind: ClassVar[str] = "series"

    name: Literal["linear_series"] = "linear_series"
    points: Size | None = Field(None, description="Times of the grid; None is all of the series.")
    noise: Noise = Field(0.0, description="Noise on the values in training.")
