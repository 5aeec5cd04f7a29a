"""The settings of `tfnode.models.anode`."""

from typing import Literal

from pydantic import Field

from tfnode.lab.model_settings.base import (
    Gradient,
    ModelSettings,
    Regularizers,
    Size,
    SizeOrNone,
    Tolerance,
)


class AnodeSettings(ModelSettings):
    """The settings of the augmented Neural ODE."""

    name: Literal["anode"] = "anode"
    filters: Size = Field(64, description="Channels of the hidden layers.")
    augment: SizeOrNone = Field(5, description="Channels of zeros, appended to the image.")
    tol: Tolerance = Field(1e-3, description="Tolerance of the solver.")
    gradient: Gradient = Field("checkpoint", description="Gradient method.")
    regularizers: Regularizers | None = Field(None, description="Regularisers of the path.")
