"""The settings of `tfnode.models.latent_ode`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import (
    Cell,
    Gradient,
    ModelSettings,
    Scale,
    Size,
    SizeOrNone,
    Tolerance,
)


class LatentOdeSettings(ModelSettings):
    """The settings of the latent ODE for time series."""

    kind: ClassVar[str] = "spirals"

    name: Literal["latent_ode"] = "latent_ode"
    latent_units: Size = Field(3, description="Dimensions of the latent state.")
    hidden_units: Size = Field(20, description="Units of the dynamics.")
    rnn_units: Size = Field(25, description="Units of the encoder.")
    cell: Cell = Field("gru", description="Cell of the encoder.")
    decoder_units: SizeOrNone = Field(0, description="Units of the decoder; 0 is linear.")
    duration: Annotated[float, Field(ge=1e-3, le=1e3)] = Field(
        3.77, description="Time from the first to the last point."
    )
    scale: Scale = Field(5.0, description="Divisor of the channels.")
    tol: Tolerance = Field(1e-3, description="Tolerance of the solver.")
    gradient: Gradient = Field("checkpoint", description="Gradient method.")
