"""`NeuralCDE`: a state that is driven by the path through a series."""

from typing import Any

import keras
import tensorflow as tf

from tfnode.interpolation import Hermite, Linear
from tfnode.interpolation.path import polynomial
from tfnode.layers.built_dynamics import refuse_activity_regularizers
from tfnode.layers.gap_solve import GapSolve, layer_of
from tfnode.layers.series import Series
from tfnode.layers.series_layer import SeriesLayer, scan
from tfnode.layers.solve_costs import CountsPasses, SolveCosts, no_cost
from tfnode.problem.field.calls import caller

PATHS = {"hermite": Hermite, "linear": Linear, "integral": Linear}


@keras.saving.register_keras_serializable("tfnode")
class NeuralCDE(CountsPasses, SeriesLayer):
    """A neural controlled differential equation: the path through the data drives the state.

    ```
    dz/dt = field(z) dX/dt,   X(t) = (t, x(t)),   z(t_0) = W x(t_0) + b
    ```

    with `x` the path through the values, see `tfnode.interpolation`, and `field(z)` a matrix of
    `units` rows and `channels + 1` columns, of which the first belongs to the time. Each sample
    has its own times, and only their differences matter to a field that does not depend on the
    time. A missing value is not on the path, which goes on through the others of its channel. A
    channel that is missing at first has its first observed value there: there alone the layer
    looks ahead. To tell it what was observed, give it the count of observations as channels.

    Args:
        units: Size of the state, an int.
        field: A Keras layer or model, called as `field(t, z)`, with `t` of shape `(batch,)`, or
            as `field(z)` if it has one input. Its output has the shape
            `(batch, units * (channels + 1))` or `(batch, units, channels + 1)`. The default is a
            perceptron with one hidden layer of `units` and ReLU, and tanh at its end. An end
            that is bounded keeps the state from growing without bound.
        path: `"hermite"`, cubics whose derivative is continuous, or `"linear"`. With `"integral"`
            the control is the integral of the straight lines, `X(t) = (t, integral of x)`: the
            values themselves drive the state, not their changes.
        solver: A name, config or instance: see `tfnode.solvers`. A solver of fixed steps takes
            `num_steps` from each point to the next, so that none goes over a kink of the path.
            The default is one step of RK4, which says nothing of its error. With `step_size`, in
            the unit of the times, and with solvers that control their error, each sample has
            its own steps.
        gradient: A name, config or instance: see `tfnode.gradients`. `None` is the exact
            gradient.
        return_sequences: Whether to return the states at all times or the last one.
        rtol, atol, max_steps, num_steps, step_size: Arguments of the solver, beside its name.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values: `(batch, n, channels)`. NaN is a missing value.
        times: `(batch, n)`, or `(n,)` where they are shared. Floats, strictly increasing; a row
            that ends early repeats its last time, and its values there are ignored. The default
            is 0, 1, 2, ...
        mask: `(batch, n)` booleans, or `None`. A masked step is padding, wherever it is: its
            value and its time have no effect. Masks that values or times carry are used, too.

    Input and output shape:
        `(batch, n, channels)` to `(batch, units)`, or `(batch, n, units)` with
        `return_sequences`, which passes the mask on. The state after a masked step is the one
        before it. A row without points has the state 0. Half-precision input is solved in
        float32; the field computes in the dtype of its own policy.

    Raises:
        ValueError: If an argument is out of range, if the field has another shape, or if the
            gradient and the solver do not go together: see `tfnode.gradients`.
        tf.errors.InvalidArgumentError: If times known only at run time do not increase, or a
            solve fails. XLA has no assertions: there the result is NaN.

    Example:
    ```python
    z = tfnode.layers.NeuralCDE(32)(values, times=times)
    ```

    Reference: Kidger, Morrill, Foster, Lyons, *Neural Controlled Differential Equations for
    Irregular Time Series* (2020).
    """

    def __init__(
        self,
        units: int,
        field: Any = None,
        path: str = "hermite",
        solver: Any = "rk4",
        gradient: Any = None,
        return_sequences: bool = False,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int | None = None,
        num_steps: int | None = None,
        step_size: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, return_sequences, **kwargs)
        if path not in PATHS:
            raise ValueError(f"`path` must be one of {list(PATHS)}. Received: path={path!r}")
        self.path_name = path  # Keras has another `path`.
        self.initial = keras.layers.Dense(self.units, dtype=self.dtype_policy, name="initial")
        self.field = None if field is None else layer_of("field", field)
        options = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
        options |= {"num_steps": num_steps, "step_size": step_size}
        self._gaps = GapSolve(solver, gradient, options)
        self.solver, self.gradient = self._gaps.solver, self._gaps.gradient

    def build_parts(self, batch: int | None, channels: int) -> None:
        self._costs = SolveCosts(self.name)
        self.initial.build((batch, channels))
        size = self.units * (channels + 1)
        self.matrix = self.field
        if self.matrix is None:
            policy = self.dtype_policy
            self.matrix = keras.Sequential(
                [
                    keras.layers.Dense(self.units, "relu", dtype=policy),
                    keras.layers.Dense(size, "tanh", dtype=policy),
                ],
                name="field",
            )
        refuse_activity_regularizers(self.matrix)
        time, state = (
            keras.KerasTensor(shape, self.wide_dtype) for shape in ((batch,), (batch, self.units))
        )
        found = tuple(caller(self.matrix)(time, state).shape)
        if found not in ((batch, size), (batch, self.units, channels + 1)):
            raise ValueError(
                "The field must return a matrix of `units` rows and `channels + 1` columns, or its "
                f"elements in one row: {(batch, size)}. Received: {self.matrix.name} with output "
                f"{found} for units={self.units}, channels={channels}"
            )

    def states(self, given: Series, training: bool | None) -> tf.Tensor:
        times, values = given.times, given.values
        # The coefficients of the pieces: `(batch, n, degree + 1, channels)`.
        pieces = PATHS[self.path_name](times, values).pieces
        z = self.initial(pieces[:, 0, 0])
        slopes = pieces
        if self.path_name != "integral":
            degrees = tf.range(1, pieces.shape[2])[:, tf.newaxis]
            slopes = tf.cast(degrees, pieces.dtype) * pieces[:, :, 1:]
        z = tf.ensure_shape(tf.cast(z, values.dtype), [times.shape[0], self.units])
        # The first step is over a gap of 0, so that there is a state for each point.
        slopes = tf.concat([tf.zeros_like(slopes[:, :1]), slopes[:, :-1]], 1)
        starts, gaps = given.gaps()
        matrix = caller(self.matrix)

        def step(states: list, inputs: list) -> list:
            piece, start, gap = inputs
            coefficients = tf.unstack(piece, axis=1)

            def rates(tau: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
                s = tau[:, tf.newaxis]
                slope = tf.concat([tf.ones_like(s), polynomial(coefficients, s)], 1)
                elements = tf.cast(matrix(start + tau, z), z.dtype)
                rows = tf.reshape(elements, [-1, self.units, slope.shape[1]])
                return tf.linalg.matvec(rows, slope)

            return list(self._gaps(rates, states[0], gap, self.counters(training)))

        found, costs = scan(step, [z, no_cost()], [slopes, starts, gaps])
        if training is True:
            self.count_pass(costs)
        return found

    def get_config(self) -> dict[str, Any]:
        field = self.field
        return {
            **super().get_config(),
            "field": None if field is None else keras.saving.serialize_keras_object(field),
            "path": self.path_name,
            **self._gaps.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NeuralCDE":
        config = dict(config)
        if config["field"] is not None:
            config["field"] = keras.saving.deserialize_keras_object(config["field"])
        return cls(**config)
