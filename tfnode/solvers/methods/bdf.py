"""TFP's solver for stiff problems, with a config."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfnode import checks
from tfnode.solvers.runge_kutta import written


@keras.saving.register_keras_serializable("tfnode")
class BDF(tfp.math.ode.BDF):
    """Backward differentiation formulas of variable order 1 to 5, for stiff problems.

    TFP's implicit solver, made serialisable and bounded. Each step solves equations with
    the dense Jacobian of the whole flattened state, batch included, so it is for small
    systems, and that state's shape must be known when a function is traced: in `fit`, use
    batches of a fixed size (`tf.data.Dataset.batch(..., drop_remainder=True)`). A failed
    solve is an error, as with the other solvers; in place of the time reached it has the
    requested one that lay ahead, since TFP does not tell more. In `Stats` the evaluations
    are TFP's count, which leaves out those of Jacobians, and the steps are -1, since it
    does not tell them.

    Args:
        rtol: Relative tolerance, positive.
        atol: Absolute tolerance, positive.
        max_steps: Budget of steps for the whole solve, rejected ones included, an int of
            at least 1.

    Raises:
        ValueError: If an argument is out of range; from a solve whose state has a shape
            that is not known.

    Reference: Shampine, Reichelt, *The MATLAB ODE suite* (1997).
    """

    def __init__(self, rtol: float = 1e-3, atol: float = 1e-6, max_steps: int = 4096):
        self.rtol, self.atol = checks.positive("rtol", rtol), checks.positive("atol", atol)
        self.max_steps = checks.integer("max_steps", max_steps, 1)
        super().__init__(rtol=self.rtol, atol=self.atol, max_num_steps=self.max_steps)

    def _solve(
        self, ode_fn: Callable, initial_time: Any, initial_state: Any, *args: Any, **kwargs: Any
    ) -> Any:
        for y in tf.nest.flatten(initial_state):
            if not y.shape.is_fully_defined():
                raise ValueError(
                    "BDF needs a state whose shape, batch included, is known when the function is "
                    "traced. Use batches of a fixed size, for example by "
                    f"`dataset.batch(n, drop_remainder=True)`. Received: a state of shape {y.shape}"
                )
        return super()._solve(ode_fn, initial_time, initial_state, *args, **kwargs)

    def __repr__(self) -> str:
        return written(self)

    def get_config(self) -> dict[str, Any]:
        return {"rtol": self.rtol, "atol": self.atol, "max_steps": self.max_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BDF":
        return cls(**config)
