"""`ModelSettings`, and the types of settings that several models have."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tfnode.lab.section import Section
from tfnode.solvers import ADAPTIVE, FIXED_STEP

Size = Annotated[int, Field(ge=1, le=2**16)]
SizeOrNone = Annotated[int, Field(ge=0, le=2**16)]
Weight = Annotated[float, Field(ge=0.0, le=1e30)]
Tolerance = Annotated[float, Field(ge=1e-12, le=1.0)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
Noise = Annotated[float, Field(ge=0.0, le=1e6)]
Norm = Literal["batch", "group", "layer", None]
# "bdf" is missing: its dense Jacobian of a batch of images fits into no memory.
if TYPE_CHECKING:  # The type checker knows no names that are found at run time.
    Solver = str
else:
    Solver = Literal[FIXED_STEP + ADAPTIVE]
Gradient = Literal["adjoint", "checkpoint", "backprop"]
Cell = Literal["simple", "gru"]


class Regularizers(Section):
    """Weights of the regularisers of the path."""

    kineticenergy: Weight = Field(0.0, description="Weight of the kinetic energy.")
    jacobianfrobenius: Weight = Field(0.0, description="Weight of the norm of the Jacobian.")


class ModelSettings(Section):
    """The settings of a model of `tfnode.models`.

    A subclass, in a file of its own in this package, has a field for each argument of the
    function, with the same default, and the name of the function as the default of `name`.

    Attributes:
        kind: The kind of data that the model takes, one of those in `tfnode.data.KINDS`.
    """

    kind: ClassVar[str] = "images"

    name: str

    if TYPE_CHECKING:  # The other fields are those of subclasses.

        def __getattr__(self, name: str) -> Any: ...

    def check(self) -> None:
        """Raise a `ValueError` for settings that contradict each other."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that builds the model."""
        return {name: value for name, value in self.to_dict().items() if name != "name"}


def check_block(model: ModelSettings, **values: Any) -> None:
    """Raise a `ValueError` for settings of an ODE block that would have no effect.

    Args:
        model: Settings with the fields `block` and `solver`.
        **values: Those of the block by their names; `None` and 0 stand for those not given.
    """
    for name, value in values.items():
        if value and not model.block:
            raise ValueError(
                f"model.{name} has no part without the ODE block. "
                f"Received: model.{name}={value}, model.block={model.block}"
            )
    for name, solvers in (("num_steps", FIXED_STEP), ("tol", ADAPTIVE)):
        if values.get(name) is not None and model.solver not in solvers:
            raise ValueError(
                f"model.{name} is for the solvers {', '.join(solvers)}. Received: "
                f"model.{name}={values[name]}, model.solver={model.solver}"
            )
