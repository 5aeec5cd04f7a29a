"""The solve of an `ODEBlock` in operations that converters to other formats know."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfnode import solvers
from tfnode.gradients.inference import Inference, converter
from tfnode.integrate import solve
from tfnode.problem.field.calls import converted
from tfnode.solvers.foreign import drivable

if TYPE_CHECKING:
    from tfnode.layers.ode_block import ODEBlock


def exported(block: "ODEBlock", inputs: Any, times: Any, context: Any) -> Any:
    """Return the outputs of a block for a file that Keras's `model.export` writes.

    Args:
        block: The `ODEBlock`.
        inputs, times, context: As in its `call`, in the dtype in which it computes.

    Raises:
        ValueError: If the converter writes no file that would run, with the remedy.
    """
    file_format, remedy = str(converter()), 'Export it by format="tf_saved_model"'
    message = obstacle(block, file_format, remedy)
    if message is None and times is not None:
        message = (
            f'format="{file_format}" needs blocks whose times are their own. Received: times '
            f"given in the call of {block.name}. {remedy}."
        )
    if message is not None:
        raise ValueError(message)
    return portable_states(block, inputs, context)


def portable_states(block: "ODEBlock", inputs: Any, context: Any = None) -> Any:
    """Return what the block returns in inference, without what the converters cannot convert.

    TensorFlow Lite has no arithmetic in float64, in which the block keeps its times, and
    no arrays of states of unknown batch size; ONNX Runtime loads no loop that writes into
    an array made before it. So the times are float32, and the intervals between them are
    solved one after the other. The gradient has no part in inference.

    Args:
        block: The `ODEBlock`.
        inputs, context: As in its `call`, in the dtype in which it computes.
    """
    pairs: list[tuple[float, ...]] = list(zip(block.times, block.times[1:]))
    if not block.return_sequences:
        pairs = [block.times]
    func, states = converted(block.dynamics), [inputs]
    for pair in pairs:
        times = tf.constant(pair, tf.float32)
        options: dict = {"final_only": True, "context": context}
        state, _, _ = solve(func, states[-1], times, block.solver, Inference(), **options)
        states.append(state)
    if not block.return_sequences:
        return states[-1]
    return tf.nest.map_structure(lambda *y: tf.stack(y, axis=1), *states)


def obstacle(block: "ODEBlock", file_format: str, remedy: str) -> str | None:
    """Return why the solver of a block has no place in a file, or `None` if it has one.

    Args:
        block: The `ODEBlock`.
        file_format: `"saved_model"`, `"onnx"`, or another name for TensorFlow Lite.
        remedy: How to write a SavedModel instead.
    """
    solver = block.solver
    name = type(solver).__name__.lower()
    if isinstance(solver, solvers.BDF):
        return (
            "A model with the solver bdf cannot be exported: it needs the batch size when the "
            "model is traced, and an artefact takes batches of any size. Train with another "
            "solver, for example dopri5."
        )
    if file_format == "saved_model" or not drivable(solver).adaptive:
        return None
    fixed = f"{remedy}, or train with a solver of fixed steps, for example rk4"
    if file_format == "onnx" and not solver.tableau.first_same_as_last:
        return (
            f"ONNX Runtime cannot run the solver {name}, which evaluates the dynamics under a "
            f"condition within a loop. {fixed}, or with bosh3, dopri5 or tsit5."
        )
    if block.return_sequences and len(block.times) > 2:
        return (
            f"The format {file_format} has no loop that stores the states at the times which the "
            f"steps of the solver {name} happen to pass, and {block.name} has "
            f"return_sequences=True. {fixed}."
        )
    return None
