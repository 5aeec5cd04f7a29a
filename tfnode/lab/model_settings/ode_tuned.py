"""The settings of `tfnode.models.ode_tuned`."""

from typing import Literal

from pydantic import Field

from tfnode.lab.model_settings.base import (
    Gradient,
    ModelSettings,
    Norm,
    Size,
    Solver,
    check_block,
)


class OdeTunedSettings(ModelSettings):
    """The settings of the Neural ODE classifier for accuracy per parameter."""

    name: Literal["ode_tuned"] = "ode_tuned"
    block: bool = Field(True, description="Whether there are ODE blocks.")
    filters: Size = Field(48, description="Channels of the first state.")
    norm: Norm = Field("batch", description="Normalisation.")
    renorm: bool = Field(True, description="Whether batch normalisation trains as it infers.")
    group_size: Size = Field(2, description="Least channels in a group of group normalisation.")
    solver: Solver = Field("midpoint", description="Solver of the ODEs.")
    num_steps: Size | None = Field(None, description="Steps of a solver of fixed steps.")
    gradient: Gradient = Field("backprop", description="Gradient method.")

    def check(self) -> None:
        """Raise a `ValueError` for settings of the ODE blocks that would have no effect."""
        check_block(self, num_steps=self.num_steps)
