"""`ODEBlock`: the solution of an ODE as a Keras layer."""

import math

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope

from tfnode import gradients, solvers
from tfnode import regularizers as path_regularizers
from tfnode.integrate import solve
from tfnode.problem import Problem, caller, converted

FORWARD_COSTS = ("forward_solves", "forward", "forward_steps", "forward_rejected")
BACKWARD_COSTS = (
    "backward_solves",
    "backward",
    "backward_steps",
    "backward_rejected",
    "reconstruction_error",
)
COSTS = (*FORWARD_COSTS, *BACKWARD_COSTS)


@keras.saving.register_keras_serializable("tfnode")
class ODEBlock(keras.layers.Layer):
    """Maps its input to the solution of an ODE that starts there.

    ```
    y(times[0]) = inputs,   dy/dt = dynamics(t, y),   outputs = y(times[-1])
    ```

    Args:
        dynamics: A Keras layer, a Keras model, or a plain callable registered with
            `keras.saving.register_keras_serializable`, called as `dynamics(t, y)`, or as
            `dynamics(y)` if it is a layer with one input. Its output has the shape of `y`. The
            Keras variables that a plain callable reads become weights of the block.
        solver: A name, config or instance: see `tfnode.solvers`.
        gradient: A name, config or instance: see `tfnode.gradients`. `None` is the exact
            gradient, as in `tfnode.odeint`.
        times: At least two numbers, strictly increasing or decreasing.
        return_sequences: Whether to return the states at all `times` or the last one.
        regularizers: A sequence of `tfnode.regularizers`, whose integral along the path is
            added to the model's loss, with `layer.add_loss`; or a mapping of their names to
            weights. In training alone: without `training=True` they are not evaluated, nor
            those whose weight is 0.
            A Runge-Kutta solver takes the same steps with them and without.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, ...)`, or a nested structure of them.
        times: 1-D tensor to use for this call instead of the layer's times.
        training: As in any layer; it reaches the dynamics in the backward solve too.

    Input and output shape:
        The output has the shape of the input; `(batch, len(times), ...)` with
        `return_sequences`. Half-precision input is solved in float32 and returned in half
        precision; the dynamics compute in the dtype of their own policy.

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
        dynamics,
        solver="rk4",
        gradient=None,
        times=(0.0, 1.0),
        return_sequences=False,
        regularizers=(),
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # It would round the times, too.
        if not callable(dynamics):
            raise ValueError(
                "`dynamics` must be a Keras layer, a Keras model or a callable. "
                f"Received: dynamics={dynamics!r}"
            )
        self.dynamics = dynamics
        self.solver = solvers.get(solver)
        self.gradient = gradients.get(gradient, self.solver)
        self.gradient.check(self.solver)
        self.times = tuple(float(t) for t in times)
        steps = [after - before for before, after in zip(self.times, self.times[1:])]
        finite = all(math.isfinite(t) for t in self.times)
        if not steps or not finite or not (all(s > 0 for s in steps) or all(s < 0 for s in steps)):
            raise ValueError(
                "`times` must be at least two numbers, strictly increasing or strictly "
                f"decreasing. Received: times={times}"
            )
        self.return_sequences = return_sequences
        self.regularizers = path_regularizers.get(regularizers)
        self._active = tuple(x for x in self.regularizers if x.weight > 0.0)
        self._noisy = any(x.needs_product for x in self._active)
        if self._noisy:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, inputs_shape, times_shape=None):
        if isinstance(self.dynamics, keras.layers.Layer):
            for layer in self.dynamics._flatten_layers():
                if layer.activity_regularizer is not None:
                    raise ValueError(
                        "Layers in the dynamics cannot have an activity regularizer; use "
                        f"`tfnode.regularizers` for the path. Received: {layer.name} with "
                        f"activity_regularizer={layer.activity_regularizer}"
                    )
        # What a solve costs, summed since somebody last set them to zero. No weights of
        # Keras's, so that they are neither counted nor saved with the model.
        with tf.init_scope():
            self._costs = {
                name: tf.Variable(
                    0,
                    trainable=False,
                    dtype=tf.float64 if name == "reconstruction_error" else tf.int64,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                    name=f"{self.name}_{name}",
                )
                for name in COSTS
            }
        if isinstance(self.dynamics, keras.layers.Layer):
            self._build_dynamics(inputs_shape)
        else:
            self._track_closure(inputs_shape)
        self.built = True

    def _build_dynamics(self, inputs_shape):
        """Calls the dynamics on symbols, which builds every layer in them."""
        time_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        state = keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, dtype=self.compute_dtype), inputs_shape
        )
        derivative = caller(self.dynamics)(keras.KerasTensor((), dtype=time_dtype), state)
        shapes = [
            keras.tree.map_structure(lambda x: tuple(x.shape), x) for x in (derivative, state)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "The dynamics must return the shape of the state, since they are its "
                f"derivative. Received: {self.dynamics.name} with output {shapes[0]} for "
                f"state {shapes[1]}"
            )

    def _track_closure(self, inputs_shape):
        """Make the variables that a plain callable reads the block's own, so that they train."""
        func, fields = converted(self.dynamics), []

        @tf.function(autograph=False)
        def trace(state):
            problem = Problem(func, state, lambda dtype: tf.zeros([1], dtype))
            fields.append(problem.vector_field)

        state = keras.tree.map_shape_structure(
            lambda shape: tf.TensorSpec(shape, self.compute_dtype), inputs_shape
        )
        with AutocastScope(self.compute_dtype):
            trace.get_concrete_function(state)
        (field,) = fields
        for variable in field.variables:
            self._track_variable(variable)
        for _, source in field.sources:
            if isinstance(source, tf.Variable):
                raise ValueError(
                    "The dynamics of an ODEBlock read a tf.Variable, which Keras neither trains "
                    "nor saves. Make it a weight of a layer, by `add_weight`, or a "
                    f"`keras.Variable`. Received: dynamics that read {source.name}"
                )

    def call(self, inputs, times=None, training=None):
        inputs = self._cast(inputs)
        integrand = None
        if self._active and training is True:
            noise = None
            if self._noisy:
                noise = path_regularizers.draw_noise(inputs, self.seed_generator)
            integrand = path_regularizers.integrand(self._active, noise)
        outputs = self._solve(
            self.dynamics, inputs, self.times if times is None else times, training, integrand
        )
        if self.return_sequences:
            outputs = tf.nest.map_structure(
                lambda y: tf.transpose(y, [1, 0, *range(2, y.shape.rank)]), outputs
            )  # (batch, times, ...)
        return outputs

    def _solve(self, dynamics, inputs, times, training, integrand=None):
        """Solve, count what it cost in training, and add the integral to the losses."""
        names = BACKWARD_COSTS if training is True else ()
        with AutocastScope(self.compute_dtype):
            outputs, integral, stats = solve(
                dynamics,
                inputs,
                times,
                self.solver,
                self.gradient,
                final_only=not self.return_sequences,
                counters=tuple(self._costs[name] for name in names),
                integrand=integrand,
            )
        if integrand is not None:
            # After the solve: within it, the layer's call context may be closed.
            self.add_loss(integral)
        if training is True:
            for name, count in zip(FORWARD_COSTS, (1, *stats)):
                self._costs[name].assign_add(tf.cast(count, tf.int64))
        return outputs

    def _cast(self, inputs):
        """Return the inputs with float tensors in the dtype that the layer computes in."""

        def cast(x):
            x = tf.convert_to_tensor(x)
            return tf.cast(x, self.compute_dtype) if x.dtype.is_floating else x

        return tf.nest.map_structure(cast, inputs)

    def costs(self):
        """What solves in training cost since `reset_costs`.

        Returns:
            A dict of numbers: `forward_solves`; in them the evaluations of the vector field
            `forward`, the accepted steps `forward_steps`, the rejected ones
            `forward_rejected` (both negative for solvers that do not tell); the same for
            `backward`; and the sum over the backward solves of the `reconstruction_error`,
            see `tfnode.callbacks.SolverStats`.
        """
        return {
            name: variable.read_value().numpy().item() for name, variable in self._costs.items()
        }

    def reset_costs(self):
        """Counts from zero again."""
        for variable in self._costs.values():
            variable.assign(0)

    def add_costs(self, costs):
        """Adds numbers that `costs` returned before, in their order."""
        for variable, cost in zip(self._costs.values(), costs):
            variable.assign_add(tf.cast(cost, variable.dtype))

    def compute_output_spec(self, inputs, times=None, **kwargs):
        if times is None:
            return super().compute_output_spec(inputs, **kwargs)
        if isinstance(times, (list, tuple)):  # Keras takes no shapes of them.
            times = keras.KerasTensor((len(times),))
        return super().compute_output_spec(inputs, times=times, **kwargs)

    def compute_output_shape(self, inputs_shape, times_shape=None):
        if not self.return_sequences:
            return inputs_shape
        length = len(self.times) if times_shape is None else times_shape[0]
        return keras.tree.map_shape_structure(
            lambda shape: (shape[0], length, *shape[1:]), inputs_shape
        )

    def get_config(self):
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
    def from_config(cls, config):
        config = dict(config)
        config["dynamics"] = keras.saving.deserialize_keras_object(config["dynamics"])
        return cls(**config)
