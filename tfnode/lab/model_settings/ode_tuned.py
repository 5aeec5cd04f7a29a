"""The settings of `tfnode.models.ode_tuned`."""

from typing import Literal

from pydantic import Field

from tfnode.lab.model_settings.base import Gradient, ModelSettings, Norm, Size, Solver


class OdeTunedSettings(ModelSettings):
    """The settings of the Neural ODE classifier for accuracy per parameter."""

    name: Literal["ode_tuned"] = "ode_tuned"
    block: bool = Field(True, description="Whether there are ODE blocks.")
    filters: Size = Field(48, description="Channels of the first state.")
    norm: Norm = Field("batch", description="Normalisation.")
    renorm: bool = Field(True, description="Whether batch normalisation trains as it infers.")
    group_size: Size = Field(2, description="Least channels in a group of group normalisation.")
    solver: Solver = Field("midpoint", description="Solver of the ODEs.")
    gradient: Gradient = Field("backprop", description="Gradient method.")
