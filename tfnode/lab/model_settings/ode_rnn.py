"""The settings of `tfnode.models.ode_rnn`."""

from typing import ClassVar, Literal

from pydantic import Field

from tfnode.lab.model_settings.base import Cell, Gradient, ModelSettings, Noise, Size, Solver


class OdeRnnSettings(ModelSettings):
    """The settings of the ODE-RNN classifier of time series."""

    kind: ClassVar[str] = "series"

    name: Literal["ode_rnn"] = "ode_rnn"
    units: Size = Field(32, description="Size of the state.")
    hidden_units: Size = Field(32, description="Units of the dynamics.")
    cell: Cell = Field("gru", description="Cell of the network.")
    solver: Solver = Field("rk4", description="Solver from each point to the next.")
    num_steps: Size | None = Field(
        None, description="Steps of a solver of fixed steps from each point to the next."
    )
    gradient: Gradient = Field("checkpoint", description="Gradient method.")
    noise: Noise = Field(0.0, description="Noise on the values in training.")
