"""The settings of `tfnode.models.cnn1d`."""

from typing import ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import ModelSettings, Noise, Size


class Cnn1dSettings(ModelSettings):
    """The settings of the convolutional classifier of time series."""

    kind: ClassVar[str] = "series"

    name: Literal["cnn1d"] = "cnn1d"
    filters: Size = Field(16, description="Channels of the first convolution.")
    points: Size | None = Field(None, description="Times of the grid; None is all of the series.")
    noise: Noise = Field(0.0, description="Noise on the values in training.")
