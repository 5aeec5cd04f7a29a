"""`ODEBlock`: the solution of an ODE as a Keras layer."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend import set_keras_mask

from tfnode import gradients, solvers
from tfnode import regularizers as path_regularizers
from tfnode.gradients.inference import converter
from tfnode.integrate import solve
from tfnode.layers.built_dynamics import build_layer, closed_over, symbols, warn_of_unregistered
from tfnode.layers.context import TakesContext
from tfnode.layers.portable import exported
from tfnode.layers.precision import autocast, cast
from tfnode.layers.solve_costs import CountsCosts, SolveCosts
from tfnode.problem.field.calls import converted
from tfnode.problem.times import numbers_in_order, without_padding


@keras.saving.register_keras_serializable("tfnode")
class ODEBlock(TakesContext, CountsCosts, keras.layers.Layer):
    """The solution of an ODE that starts at the input.

    ```
    y(times[0]) = inputs,   dy/dt = dynamics(t, y),   outputs = y(times[-1])
    ```

    Args:
        dynamics: A Keras layer, a Keras model, or a plain callable registered with
            `keras.saving.register_keras_serializable`, called as `dynamics(t, y)`, or as
            `dynamics(y)` if it is a layer with one input; where a context is given, as
            `dynamics(t, y, context)`. Its output has the shape of `y`. The Keras variables that a
            plain callable reads become weights of the block.
        solver: A name, config or instance: see `tfnode.solvers`. A name of a fixed-step solver
            without steps takes one step from each of the times to the next. The default is one
            step of RK4: a residual block of four evaluations, whose gradient is exact. Nothing
            controls its error, so with other times than the default ones it is a warning.
        gradient: A name, config or instance: see `tfnode.gradients`. `None` is the exact
            gradient, as in `tfnode.odeint`.
        times: At least two numbers, strictly increasing or decreasing.
        return_sequences: Whether to return the states at all `times` or the last one.
        regularizers: A sequence of `tfnode.regularizers`, whose integral along the path is
            added to the model's loss, with `layer.add_loss`; or a mapping of their names to
            weights. In training alone: without `training=True` they are not evaluated, nor
            those whose weight is 0.
            A Runge-Kutta solver takes the same steps with them and without.
        rtol, atol, max_steps, num_steps, step_size: Arguments of the solver, beside its name.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, ...)`, or a nested structure of them.
        times: 1-D tensor to use for this call instead of the layer's times; or `(batch, n)`, each
            sample's own, as in `tfnode.odeint`.
        times_mask: Boolean tensor `(batch, n)`, false for times `(batch, n)` that are padding at
            the end of a row: the state stays there. Keras passes on the mask that `times` have.
        context: Any nest of tensors that the dynamics take as a third argument: parameters of
            each sample, say. Float tensors are cast as the inputs are. It has a gradient. With
            times of each sample, every tensor of the context is a scalar or has a row for each.
        training: As in any layer; it reaches the dynamics in the backward solve too.

    Input and output shape:
        The output has the shape of the input; `(batch, len(times), ...)` with
        `return_sequences`. A mask is passed on; with `return_sequences`, whose output has another
        axis, it is that of the times. The dynamics do not see it. Half-precision input is solved in
        float32 and returned in half precision; the dynamics compute in the dtype of their policy.

    Raises:
        ValueError: If an argument is out of range, if the dynamics change the shape, or
            if a layer in the dynamics has an activity regularizer: such a loss would
            belong to one evaluation inside the solver, of which nobody knows the number;
            if a plain callable reads a `tf.Variable`, which Keras cannot train; in training,
            if the dynamics hold plain batch normalisation.

    Example:
    ```python
    dynamics = keras.Sequential([keras.layers.Dense(50, "tanh"), keras.layers.Dense(2)])
    outputs = tfnode.ODEBlock(dynamics, solver="rk4")(inputs)
    ```

    Reference: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential
    Equations* (2018).
    """

    def __init__(
        self,
        dynamics: Callable,
        solver: Any = "rk4",
        gradient: Any = None,
        times: Sequence[float] | np.ndarray = (0.0, 1.0),
        return_sequences: bool = False,
        regularizers: Any = (),
        *,
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int | None = None,
        num_steps: int | None = None,
        step_size: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)  # It would round the times, too.
        self.supports_masking = not return_sequences
        if not callable(dynamics):
            raise ValueError(
                "`dynamics` must be a Keras layer, a Keras model or a callable. "
                f"Received: dynamics={dynamics!r}"
            )
        self.dynamics = dynamics
        self.times = numbers_in_order(times)
        options: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
        options |= {"num_steps": num_steps, "step_size": step_size}
        self.solver = solvers.get(solver, **options)
        # Over the unit of time of the layer's own, one step is a choice that the docstring tells.
        self._single_steps = solvers.nobody_chose_steps(solver, **options)
        if self._single_steps and self.times != (0.0, 1.0):
            solvers.warn_of_single_steps(self.solver, stacklevel=3)
        self.gradient = gradients.get(gradient, self.solver)
        self.gradient.check(self.solver)
        self.return_sequences = return_sequences
        self.regularizers = path_regularizers.get(regularizers)
        self._active = tuple(x for x in self.regularizers if x.weight > 0.0)
        self._noisy = any(x.needs_product for x in self._active)
        if self._noisy:
            self.seed_generator = keras.random.SeedGenerator()

    def build(
        self,
        inputs_shape: Any,
        times_shape: Any = None,
        context_shape: Any = None,
        times_mask_shape: Any = None,
    ) -> None:
        self._costs = SolveCosts(self.name)
        state = symbols(inputs_shape, self.compute_dtype)
        own_times = times_shape is not None and len(times_shape) == 2
        context = symbols(context_shape, self.compute_dtype, self._context_dtypes)
        if isinstance(self.dynamics, keras.layers.Layer):
            time_dtype = "float64" if self.compute_dtype == "float64" else "float32"
            time_shape = keras.tree.flatten(state)[0].shape[:1] if own_times else ()
            build_layer(self.dynamics, state, context, time_dtype, time_shape)
        else:
            with autocast(self):
                variables = closed_over(self.dynamics, state, context, own_times)
            for variable in variables:
                self._track_variable(variable)
        self.built = True

    def call(
        self,
        inputs: Any,
        times: Any = None,
        context: Any = None,
        training: bool | None = None,
        times_mask: Any = None,
    ) -> Any:
        inputs = cast(inputs, self.compute_dtype)
        if converter() is not None:
            with autocast(self):
                return exported(self, inputs, times, cast(context, self.compute_dtype))
        if times_mask is not None:
            times = without_padding(times, times_mask)
        integrand = None
        if self._active and training is True:
            seeds = self.seed_generator if self._noisy else None
            noise = None if seeds is None else path_regularizers.draw_noise(inputs, seeds)
            integrand = path_regularizers.integrand(self._active, noise)
        if times is None:
            times = self.times
        elif self._single_steps:
            solvers.warn_of_single_steps(self.solver)
        outputs = self._solve(self.dynamics, inputs, times, training, integrand, context)
        if self.return_sequences:
            outputs = tf.nest.map_structure(
                lambda y: tf.transpose(y, [1, 0, *range(2, y.shape.rank)]), outputs
            )  # (batch, times, ...)
            if times_mask is not None:
                tf.nest.map_structure(lambda y: set_keras_mask(y, times_mask), outputs)
        return outputs

    @tf.autograph.experimental.do_not_convert
    def _solve(
        self,
        dynamics: Any,
        inputs: Any,
        times: Any,
        training: bool | None,
        integrand: Callable | None = None,
        context: Any = None,
    ) -> Any:
        """Solve, count what it cost in training, and add the integral to the losses."""
        with autocast(self):
            outputs, integral, stats = solve(
                converted(dynamics),
                inputs,
                times,
                self.solver,
                self.gradient,
                final_only=not self.return_sequences,
                counters=self.counters(training),
                integrand=integrand,
                context=cast(context, self.compute_dtype),
            )
        if integrand is not None:
            # After the solve: within it, the layer's call context may be closed.
            self.add_loss(integral)
        if training is True:
            self._costs.count_forward(stats)
        return outputs

    def compute_output_spec(
        self, inputs: Any, times: Any = None, context: Any = None, **kwargs: Any
    ) -> Any:
        del context
        if times is None:
            return super().compute_output_spec(inputs, **kwargs)
        if isinstance(times, (list, tuple)):  # Keras takes no shapes of them.
            times = keras.KerasTensor((len(times),))
        return super().compute_output_spec(inputs, times=times, **kwargs)

    def compute_output_shape(
        self,
        inputs_shape: Any,
        times_shape: Any = None,
        context_shape: Any = None,
        times_mask_shape: Any = None,
    ) -> Any:
        if not self.return_sequences:
            return inputs_shape
        length = len(self.times) if times_shape is None else times_shape[-1]
        return keras.tree.map_shape_structure(
            lambda shape: (shape[0], length, *shape[1:]), inputs_shape
        )

    def get_config(self) -> dict:
        warn_of_unregistered(self.dynamics)
        return {
            **super().get_config(),
            "dynamics": keras.saving.serialize_keras_object(self.dynamics),
            "solver": solvers.serialize(self.solver),
            "gradient": gradients.serialize(self.gradient),
            "times": self.times,
            "return_sequences": self.return_sequences,
            "regularizers": path_regularizers.serialize(self.regularizers),
        }

    @classmethod
    def from_config(cls, config: dict) -> "ODEBlock":
        config = dict(config)
        config["dynamics"] = keras.saving.deserialize_keras_object(config["dynamics"])
        return cls(**config)
