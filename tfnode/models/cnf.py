"""`cnf`: a continuous normalizing flow."""

from collections.abc import Sequence
from typing import Any

from tfnode import solvers
from tfnode.layers import DenseDynamics, FlowBlock
from tfnode.models.normalizing_flow import NormalizingFlow


def cnf(
    input_shape: tuple[int, ...] = (2,),
    *,
    hidden_units: int | Sequence[int] = (64, 64, 64),
    activation: str = "tanh",
    tol: float = 1e-5,
    gradient: Any = "checkpoint",
    trace: str = "auto",
    regularizers: Any = (),
) -> NormalizingFlow:
    """Return a continuous normalizing flow, a density trained by maximum likelihood.

    ```
    x -> dx/dt = f(t, x) on [0, 1] -> z with a standard normal density
    ```

    `f` is a multilayer perceptron of the state and the time, `tfnode.layers.DenseDynamics`.
    For other dynamics, solvers and times: `NormalizingFlow(input_shape, FlowBlock(...))`.

    Args:
        input_shape: Of one sample; the last axis is that of the perceptron.
        hidden_units: The sizes of the hidden layers, an int if there is one.
        activation: Of the hidden layers, smooth.
        tol: Relative and absolute tolerance of the solver, `tfnode.solvers.Dopri5`.
        gradient: See `tfnode.gradients`.
        trace: `"exact"`, `"hutchinson"`, or `"auto"`, exact for samples of up to 4 elements:
            see `tfnode.layers.FlowBlock`.
        regularizers: Of the path of `x`, see `tfnode.ODEBlock` (RNODE).

    Returns:
        A `tfnode.models.NormalizingFlow`, a `keras.Model` with `log_prob(x)`, `sample(n)`,
        and `distribution()` for TensorFlow Probability.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
    ```python
    model = tfnode.models.cnf((2,), regularizers={"kineticenergy": 0.01})
    model.compile("adam", jit_compile=True)  # The loss is the negative log-likelihood.
    model.fit(x, batch_size=256, epochs=10)
    ```

    Reference: Grathwohl et al., *FFJORD* (2019); Finlay et al., *How to train your neural ODE*
    (2020), for the regularisers.
    """
    dynamics = DenseDynamics(hidden_units, activation)
    solver = solvers.Dopri5(rtol=tol, atol=tol)
    flow = FlowBlock(dynamics, solver, gradient, trace=trace, regularizers=regularizers)
    return NormalizingFlow(input_shape, flow, name="cnf")
