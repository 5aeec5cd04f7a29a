"""`ODERNN`: a recurrent network whose state follows an ODE between the points."""

from typing import Any

import keras
import tensorflow as tf

from tfnode.layers.built_dynamics import build_layer
from tfnode.layers.gap_solve import GapSolve, layer_of
from tfnode.layers.series import Series
from tfnode.layers.series_rnn import SeriesRNN
from tfnode.layers.solve_costs import CountsPasses, SolveCosts
from tfnode.problem.field.calls import caller


@keras.saving.register_keras_serializable("tfnode")
class ODERNN(CountsPasses, SeriesRNN):
    """A recurrent network whose state follows an ODE between the points of an irregular series.

    ```
    h(t_k-) = h(t_{k-1}) + integral of dynamics(t, h(t)) from t_{k-1} to t_k
    h(t_k)  = cell([x_k, m_k], h(t_k-))
    ```

    from a state of zeros. Each sample has its own times. `m_k` says which channels were observed:
    1 or 0, as further inputs of the cell, and `x_k` is 0 where they were not. At a time without
    any observation the state is `h(t_k-)`.

    Args:
        units: Size of the state, an int.
        dynamics: A Keras layer or model, called as `dynamics(t, h)`, with `t` of shape
            `(batch,)`, or as `dynamics(h)` if it has one input. The default is a perceptron
            that does not depend on the time, with one hidden layer of `units` and tanh.
        cell: `"gru"`, `"simple"`, or a cell of Keras, whose first state has `units` components
            and is its output. The ODE moves that state alone.
        solver: A name, config or instance: see `tfnode.solvers`. A solver of fixed steps takes
            `num_steps` from each point to the next. The default is one step of RK4, which says
            nothing of its error. With `step_size`, in the unit of the times, and with solvers
            that control their error, each sample has its own steps.
        gradient: A name, config or instance: see `tfnode.gradients`. `None` is the exact
            gradient.
        return_sequences: Whether to return the states at all times or the last one.
        go_backwards: Whether the series is read from the last point to the first, the ODE
            backward in time. The sequence of states is then in that order.
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
        float32; the dynamics and the cell compute in the dtype of their own policy.

    Raises:
        ValueError: If an argument is out of range, if the dynamics change the shape of the state,
            or if the gradient and the solver do not go together: see `tfnode.gradients`.
        tf.errors.InvalidArgumentError: If times known only at run time do not increase, or a
            solve fails. XLA has no assertions: there the result is NaN.

    Example:
    ```python
    h = tfnode.layers.ODERNN(32)(values, times=times)
    ```

    Reference: Rubanova, Chen, Duvenaud, *Latent ODEs for Irregularly-Sampled Time Series*
    (2019), algorithm 1.
    """

    def __init__(
        self,
        units: int,
        dynamics: Any = None,
        cell: Any = "gru",
        solver: Any = "rk4",
        gradient: Any = None,
        return_sequences: bool = False,
        go_backwards: bool = False,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int | None = None,
        num_steps: int | None = None,
        step_size: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, cell, return_sequences, go_backwards, **kwargs)
        options = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
        options |= {"num_steps": num_steps, "step_size": step_size}
        self._gaps = GapSolve(solver, gradient, options)
        self.solver, self.gradient = self._gaps.solver, self._gaps.gradient
        if dynamics is None:
            policy = self.dtype_policy
            dynamics = keras.Sequential(
                [
                    keras.layers.Dense(self.units, "tanh", dtype=policy),
                    keras.layers.Dense(self.units, dtype=policy),
                ],
                name="dynamics",
            )
        self.dynamics = layer_of("dynamics", dynamics)

    def build_parts(self, batch: int | None, channels: int) -> None:
        super().build_parts(batch, channels)
        self._costs = SolveCosts(self.name)
        state = keras.KerasTensor((batch, self.units), self.wide_dtype)
        build_layer(self.dynamics, state, None, self.wide_dtype, (batch,))

    def num_features(self, channels: int) -> int:
        return 2 * channels

    def features(self, given: Series) -> tf.Tensor:
        observed = given.observed
        values = tf.where(observed, given.values, tf.zeros_like(given.values))
        return tf.concat([values, tf.cast(observed, values.dtype)], 2)

    def move(
        self, h: tf.Tensor, start: tf.Tensor, gap: tf.Tensor, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        dynamics = caller(self.dynamics)
        counters = self.counters(training)
        return self._gaps(lambda tau, h: dynamics(start + tau, h), h, gap, counters)

    def get_config(self) -> dict[str, Any]:
        dynamics = keras.saving.serialize_keras_object(self.dynamics)
        return {**super().get_config(), "dynamics": dynamics, **self._gaps.get_config()}
