"""Models in operations that the converters to ONNX and TensorFlow Lite know."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfnode import solvers
from tfnode.gradients.inference import Inference
from tfnode.integrate import solve
from tfnode.layers import ODEBlock
from tfnode.problem.field.calls import caller
from tfnode.runs.errors import RunError
from tfnode.solvers.foreign import drivable

HALF = {"bfloat16", "float16"}
REMEDY = "Export it with --format=saved_model"


class PortableBlock(ODEBlock):
    """An `ODEBlock` for inference, without what the converters cannot convert.

    TensorFlow Lite has no arithmetic in float64, in which the block keeps its times, and
    no arrays of states of unknown batch size; ONNX Runtime loads no loop that writes into
    an array made before it. So the times are float32, and the intervals between them are
    solved one after the other. The gradient has no part in inference.
    """

    def call(
        self,
        inputs: Any,
        times: Any = None,
        context: Any = None,
        training: bool | None = None,
        times_mask: Any = None,
    ) -> Any:
        del training, times_mask
        dynamics = self.dynamics
        if context is not None:
            dynamics = caller(dynamics, self._cast(context))
        if times is not None:
            raise RunError(
                "The converters need blocks whose times are their own. Received: times given "
                f"in the call of {self.name}. {REMEDY}."
            )
        pairs: list[tuple[float, ...]] = list(zip(self.times, self.times[1:]))
        if not self.return_sequences:
            pairs = [self.times]
        states = [self._cast(inputs)]
        for pair in pairs:
            state, _, _ = solve(
                dynamics,
                states[-1],
                tf.constant(pair, tf.float32),
                self.solver,
                Inference(),
                final_only=True,
            )
            states.append(state)
        if not self.return_sequences:
            return states[-1]
        return tf.nest.map_structure(lambda *y: tf.stack(y, axis=1), *states)


def portable(model: keras.Model) -> keras.Model:
    """Return a copy of the model with `PortableBlock`s in place of its `ODEBlock`s."""
    return _copy(
        model,
        lambda kind, config: (PortableBlock if issubclass(kind, ODEBlock) else kind, config),
    )


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model, or a copy that computes in float32 if it computes in half precision."""
    if not {layer.compute_dtype for layer in model._flatten_layers()} & HALF:
        return model
    return _copy(model, lambda kind, config: (kind, _float32(config)))


def _copy(model: keras.Model, change: Callable[[Any, Any], tuple[Any, Any]]) -> keras.Model:
    """Return a copy of a model, with the class and the config of each layer changed."""

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind, config = change(type(layer), layer.get_config())
        return kind.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _float32(config: Any) -> Any:
    """Return the config of a layer with the policies of all layers in it replaced."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_float32, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float32"}}
    return {name: _float32(value) for name, value in config.items()}


def check(model: keras.Model, file_format: str) -> None:
    """Raise an error for a model that has no artefact in a format.

    Raises:
        RunError: Naming the part of the model that cannot be converted, and the remedy.
    """
    # Models that are neither sequential nor functional have no such lists.
    ends = [len(getattr(model, name, None) or []) for name in ("inputs", "outputs")]
    if not ends[0] or ends[1] != 1:
        raise RunError(
            "Expected a sequential or functional model with one output. Received: "
            f"{model.name} with {ends[0]} inputs and {ends[1]} outputs"
        )
    if file_format != "saved_model" and ends[0] != 1:
        raise RunError(
            f"--format={file_format} needs a model with one input. Received: {model.name} with "
            f"the inputs {', '.join(x.name for x in model.inputs)}. {REMEDY}."
        )
    for layer in model._flatten_layers():
        if isinstance(layer, ODEBlock):
            _check_solver(layer, file_format)
        # Half precision becomes float32, see `in_float32`.
        if file_format != "saved_model" and layer.compute_dtype not in {"float32", *HALF}:
            raise RunError(
                f"--format={file_format} needs a model that computes in float32. Received: "
                f"{layer.name} in {layer.compute_dtype}. {REMEDY}, or train with "
                "--precision=float32."
            )


def _check_solver(block: ODEBlock, file_format: str) -> None:
    solver = block.solver
    name = type(solver).__name__.lower()
    if isinstance(solver, solvers.BDF):
        raise RunError(
            "A model with the solver bdf cannot be exported: it needs the batch size when the "
            "model is traced, and an artefact takes batches of any size. Train with another "
            "solver, for example dopri5."
        )
    if file_format == "saved_model" or not drivable(solver).adaptive:
        return
    fixed = f"{REMEDY}, or train with a solver of fixed steps, for example rk4"
    if file_format == "onnx" and not solver.tableau.first_same_as_last:
        raise RunError(
            f"ONNX Runtime cannot run the solver {name}, which evaluates the dynamics under a "
            f"condition within a loop. {fixed}, or with bosh3, dopri5 or tsit5."
        )
    if block.return_sequences and len(block.times) > 2:
        raise RunError(
            f"--format={file_format} has no loop that stores the states at the times which the "
            f"steps of the solver {name} happen to pass, and {block.name} has "
            f"return_sequences=True. {fixed}."
        )
