"""The settings of `tfnode.models.rnn_forecaster`."""

from typing import ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import Cell, ModelSettings, Scale, Size


class RnnForecasterSettings(ModelSettings):
    """The settings of the baseline for time series."""

    kind: ClassVar[str] = "spirals"

    name: Literal["rnn_forecaster"] = "rnn_forecaster"
    units: Size = Field(25, description="Size of the state.")
    cell: Cell = Field("simple", description="Cell of the network.")
    scale: Scale = Field(5.0, description="Divisor of the channels.")
