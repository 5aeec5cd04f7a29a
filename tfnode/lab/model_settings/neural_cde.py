"""The settings of `tfnode.models.neural_cde`."""

from typing import ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import Gradient, ModelSettings, Noise, Size, SizeOrNone, Solver


class NeuralCdeSettings(ModelSettings):
    """The settings of the neural CDE classifier of time series."""

    kind: ClassVar[str] = "series"

    name: Literal["neural_cde"] = "neural_cde"
    units: Size = Field(16, description="Size of the state.")
    hidden_units: Size = Field(32, description="Units of each hidden layer of the field.")
    hidden_layers: SizeOrNone = Field(1, description="Hidden layers of the field.")
    path: Literal["hermite", "linear", "integral"] = Field(
        "hermite", description="Path through the values, or its integral, which drives the state."
    )
    solver: Solver = Field("rk4", description="Solver from each point to the next.")
    num_steps: Size | None = Field(
        None, description="Steps of a solver of fixed steps from each point to the next."
    )
    gradient: Gradient = Field("checkpoint", description="Gradient method.")
    noise: Noise = Field(0.0, description="Noise on the values in training.")
