"""The settings of `tfnode.models.odenet`."""

from typing import Literal

from pydantic import Field

from tfnode.lab.model_settings.base import (
    Gradient,
    ModelSettings,
    Norm,
    Regularizers,
    Size,
    SizeOrNone,
    Solver,
    Tolerance,
    check_block,
)


class OdenetSettings(ModelSettings):
    """The settings of the Neural ODE classifier."""

    name: Literal["odenet"] = "odenet"
    block: bool = Field(True, description="Whether there is an ODE block.")
    filters: Size = Field(64, description="Channels of the state.")
    norm: Norm = Field("batch", description="Normalisation.")
    renorm: bool = Field(True, description="Whether batch normalisation trains as it infers.")
    group_size: Size = Field(2, description="Least channels in a group of group normalisation.")
    solver: Solver = Field("rk38", description="Solver of the ODE.")
    num_steps: Size | None = Field(None, description="Steps of a solver of fixed steps.")
    tol: Tolerance | None = Field(None, description="Tolerance of an adaptive solver.")
    gradient: Gradient = Field("adjoint", description="Gradient method.")
    augment: SizeOrNone = Field(0, description="Channels of zeros, appended to the state.")
    regularizers: Regularizers | None = Field(None, description="Regularisers of the path.")

    def check(self) -> None:
        """Raise a `ValueError` for settings of the ODE block that would have no effect."""
        if self.augment and not self.block:
            raise ValueError(
                "model.augment must be 0 without the ODE block, since it gives that channels to "
                f"move through. Received: model.augment={self.augment}, model.block={self.block}"
            )
        weights = self.regularizers.to_dict() if self.regularizers else {}
        check_block(
            self,
            num_steps=self.num_steps,
            tol=self.tol,
            **{f"regularizers.{name}": weight for name, weight in weights.items()},
        )
