"""The settings of `tfnode.models.gru`."""

from typing import ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import Cell, ModelSettings, Noise, Size


class GruSettings(ModelSettings):
    """The settings of the recurrent classifier of time series."""

    kind: ClassVar[str] = "series"

    name: Literal["gru"] = "gru"
    units: Size = Field(34, description="Size of the state.")
    cell: Cell = Field("gru", description="Cell of the network.")
    noise: Noise = Field(0.0, description="Noise on the values in training.")
