"""Scopes of Keras in which the dynamics are traced or evaluated."""

from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context, record
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    CondBranchFuncGraph,
    WhileBodyFuncGraph,
    WhileCondFuncGraph,
)

CONTROL_FLOW_GRAPHS = (CondBranchFuncGraph, WhileBodyFuncGraph, WhileCondFuncGraph)


def at_start(variable: keras.Variable) -> tf.Tensor:
    """Return the value that a variable had when the solve began, as a constant.

    Outside of a solve it is the value that the variable has.
    """
    scope = get_stateless_scope() if in_stateless_scope() else None
    if isinstance(scope, FieldScope):
        return scope.at_start(variable)
    return tf.stop_gradient(tf.convert_to_tensor(variable))


class FieldScope(keras.StatelessScope):
    """A scope in which the dynamics are evaluated: it knows the values at the start of the solve.

    Args:
        seeds: `(variable, tensor)` pairs, as in `VectorField.seeds`.
        starts: The values of `at_start`, by the identity of the variable.
        initialize_variables: As in `keras.StatelessScope`.
    """

    def __init__(self, seeds: list, starts: dict, initialize_variables: bool = True):
        super().__init__(seeds, initialize_variables=initialize_variables)
        self.starts = starts
        self.outer: Any = get_stateless_scope() if in_stateless_scope() else None
        if self.outer is not None:
            # Variables have the values that they have in the scope around.
            self.state_mapping: dict = {**self.outer.state_mapping, **self.state_mapping}

    def at_start(self, variable: keras.Variable) -> tf.Tensor:
        return self.starts[id(variable)]


class Pinned(FieldScope):
    """A scope of one evaluation: Keras's seed generators draw what they draw in the whole solve.

    Updates of other variables take place.
    """

    def __init__(self, seeds: list, starts: dict):
        super().__init__(seeds, starts, initialize_variables=False)

    def add_update(self, update: tuple) -> None:
        """Keep an update of a seed, and carry out any other one."""
        variable, value = update
        if is_seed(variable):
            super().add_update(update)
        else:
            variable._direct_assign(value)


class Watching(FieldScope):
    """A scope in which variables have the values that they have around the trace.

    It drops the updates of variables, and notes which are read and updated.

    Attributes:
        values: The tensors that stand for variables.
        reread: The values that were read of variables after an update.
        graph: The graph of the trace.
        frozen: The set of the identities of those in which nobody may ask for a gradient.
    """

    def __init__(self, seeds: list):
        super().__init__(seeds, {})
        self.read: dict = {}
        self.updated: dict = {}
        self.created = False
        self.values: dict = {}
        self.frozen: set = set()
        self.reread: list = []
        self.graph: Any = None
        self._around = tf.compat.v1.get_default_graph().as_default
        if tf.executing_eagerly():
            self._around = context.eager_mode

    def add_update(self, update: tuple) -> None:
        variable, _ = update
        if self._in_a_function():
            self._refuse_function(variable)
        if is_seed(variable) and pywrap_tfe.TFE_Py_TapeSetIsStopped():
            raise ValueError(
                "The dynamics draw random numbers inside of tf.recompute_grad, which would draw "
                "others on the way back. Leave it out: the gradients 'checkpoint' and 'adjoint' "
                f"recompute the dynamics themselves. Received: dynamics with {variable.path}"
            )
        _, count = self.updated.get(id(variable), (variable, 0))
        self.updated[id(variable)] = variable, count + 1
        super().add_update(update)

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.read[id(variable)] = variable
        self.created |= variable._value is None
        if self._in_a_function():
            if is_seed(variable):
                self._refuse_function(variable)
            # The function keeps what it reads for later solves: let that be the variable.
            return None
        value = super().get_current_value(variable)
        if value is None and variable._value is not None:
            value = self._value_around(variable)
        elif id(variable) in self.updated and not is_seed(variable):
            value = tf.identity(value)
            self.reread.append(value)
        return value

    def at_start(self, variable: keras.Variable) -> tf.Tensor:
        self.read[id(variable)] = variable
        if id(variable) not in self.starts:
            with self._around():
                inner = isinstance(self.outer, FieldScope)
                value = self.outer.at_start(variable) if inner else variable._value
                self.starts[id(variable)] = tf.stop_gradient(value)
        return self.starts[id(variable)]

    def _in_a_function(self) -> bool:
        """Return whether a `tf.function` of the user's is traced, within this trace."""
        graph = tf.compat.v1.get_default_graph()
        while isinstance(graph, CONTROL_FLOW_GRAPHS):
            graph = graph.outer_graph
        return graph is not self.graph

    def _refuse_function(self, variable: keras.Variable) -> None:
        raise ValueError(
            "The dynamics update a variable or draw random numbers inside of a tf.function of "
            "their own, which would keep the values of its first trace. Leave out the tf.function: "
            f"the solve traces the dynamics. Received: dynamics with {variable.path}"
        )

    def _value_around(self, variable: keras.Variable) -> tf.Tensor:
        if id(variable) not in self.values:
            with self._around():
                value = tf.identity(variable._value)
                if not (variable._value.trainable or record.should_record_backprop([value])):
                    self.frozen.add(id(value))
            self.values[id(variable)] = value
        return self.values[id(variable)]

    def updated_seeds(self) -> list:
        """Return the seeds that were drawn from, each with the number of draws."""
        return [pair for pair in self.updated.values() if is_seed(pair[0])]


def is_seed(variable: keras.Variable) -> bool:
    """Return whether a variable is the state of a seed generator."""
    return variable.name == "seed_generator_state"
