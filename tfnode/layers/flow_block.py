"""`FlowBlock`: a change of variables by an ODE, with the change of density."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfnode import regularizers as path_regularizers
from tfnode.layers.ode_block import ODEBlock
from tfnode.layers.precision import cast
from tfnode.problem.field.calls import caller, converted

LARGEST_EXACT = 4  # Elements of a sample up to which 'auto' takes the exact trace.
TRACES = ("auto", "exact", "hutchinson")


@keras.saving.register_keras_serializable("tfnode")
class FlowBlock(ODEBlock):
    """The flow of an ODE, with the logarithm of how much it expands volumes.

    ```
    dx/dt = dynamics(t, x),   d log_det / dt = tr(d dynamics / dx)
    ```

    Let `x` have the density `p`, and the state `z` at the last time the density `q`. Then
    `log p(x) = log q(z) + log_det`. The samples of a batch must not depend on each other, so
    the dynamics cannot have batch normalisation. Both equations are one state: an adaptive
    solver controls the error of the log-density, too.

    The regularisers look at the path of `x` alone, and share the vector-Jacobian products of
    the trace. So `JacobianFrobenius` costs nothing more here, and has no noise where the trace
    is exact.

    Args:
        dynamics: As in `tfnode.ODEBlock`.
        solver, gradient, times: As in `tfnode.ODEBlock`.
        trace: `"exact"`: a vector-Jacobian product for each element of a sample, at every
            evaluation; `"hutchinson"`: one for all of them, an estimate without bias from
            noise of -1 and 1 drawn once for each solve; `"auto"`: exact for samples of up to
            4 elements.
        regularizers: As in `tfnode.ODEBlock`.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, ...)`.
        training: As in any layer.
        trace: Instead of the layer's, for this call.

    Input and output shape:
        `(batch, ...)` to `(batch, ...)` and `(batch,)`, the latter at least in float32.

    Raises:
        ValueError: If an argument is out of range, or as from `tfnode.ODEBlock`.

    Example:
    ```python
    z, log_det = tfnode.layers.FlowBlock(tfnode.layers.DenseDynamics([64, 64]))(x)
    ```

    Reference: Chen et al., *Neural Ordinary Differential Equations* (2018), section 4;
    Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, *FFJORD* (2019), section 3.
    """

    def __init__(
        self,
        dynamics: Any,
        solver: Any = "dopri5",
        gradient: Any = "checkpoint",
        times: Sequence[float] = (0.0, 1.0),
        trace: str = "auto",
        regularizers: Any = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(dynamics, solver, gradient, times, regularizers=regularizers, **kwargs)
        self.trace = _checked(trace)
        if not self._noisy:  # Any call may ask for an estimate.
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, inputs_shape: tuple) -> None:  # type: ignore[override]
        super().build(inputs_shape)

    def call(  # type: ignore[override]
        self, inputs: Any, training: bool | None = None, trace: str | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = cast(inputs, self.compute_dtype)
        noises, exact = self._noises(inputs, trace)
        active = self._active if training is True else ()
        log_dtype = tf.float64 if inputs.dtype == "float64" else tf.float32

        def evaluate(dynamics: Callable, t: Any, state: Any) -> tuple[Any, Any]:
            x, _ = state
            derivative, found = path_regularizers.with_products(dynamics, t, x, noises)
            products = [p for (p,) in found]
            trace = 0.0
            for noise, product in zip(noises, products):
                diagonal = tf.cast(product, log_dtype) * tf.cast(noise, log_dtype)
                trace += tf.reduce_sum(diagonal, list(range(1, diagonal.shape.rank)))  # (batch,)
            if exact:
                # Each noise here has one element of 1, and they must have covariance 1.
                products = [p * math.sqrt(len(noises)) for p in products]
            rate = path_regularizers.weighted_rate(active, derivative, products) if active else 0.0
            return (derivative, trace), rate

        dynamics = caller(converted(self.dynamics))

        @tf.autograph.experimental.do_not_convert
        def field(t: Any, state: Any) -> Any:
            return evaluate(dynamics, t, state)[0]

        def integrand(_: Callable, t: Any, state: Any) -> tuple[Any, Any]:
            return evaluate(dynamics, t, state)

        start = (inputs, tf.zeros(tf.shape(inputs)[:1], log_dtype))
        return self._solve(field, start, self.times, training, integrand if active else None)

    def inverse(self, outputs: Any, training: bool | None = None) -> tf.Tensor:
        """Return the inputs that the flow maps to `outputs`: `(batch, ...)` to the same.

        Without the change of density, and so without vector-Jacobian products.
        """
        outputs = cast(outputs, self.compute_dtype)
        return self._solve(self.dynamics, outputs, self.times[::-1], training)

    def _noises(self, inputs: Any, trace: str | None) -> tuple[list[tf.Tensor], bool]:
        """Return the factors of the Jacobian, and whether the trace is exact."""
        trace = self.trace if trace is None else _checked(trace)
        shape = tuple(inputs.shape[1:])
        size = None if None in shape else math.prod(shape)
        if trace == "exact" and size is None:
            raise ValueError(
                "The exact trace needs to know the shape of a sample; give the input its shape, "
                f"or use trace='hutchinson'. Received: inputs of shape {inputs.shape}"
            )
        if size is not None and (trace == "exact" or (trace == "auto" and size <= LARGEST_EXACT)):
            units = np.eye(size, dtype=np.int8).reshape(size, 1, *shape)
            return [tf.broadcast_to(unit, tf.shape(inputs)) for unit in units], True
        return [path_regularizers.draw_noise(inputs, self.seed_generator)], False

    def compute_output_shape(self, inputs_shape: tuple) -> tuple:  # type: ignore[override]
        return tuple(inputs_shape), (inputs_shape[0],)

    def compute_output_spec(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        z, log_det = super().compute_output_spec(inputs)
        log_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        return z, keras.KerasTensor(log_det.shape, log_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return previous_mask, None

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "trace": self.trace}
        del config["return_sequences"]
        return config


def _checked(trace: str) -> str:
    if trace not in TRACES:
        raise ValueError(f"`trace` must be one of {TRACES}. Received: trace={trace!r}")
    return trace
