"""Models in operations that the converters to ONNX and TensorFlow Lite know."""

from collections.abc import Callable
from typing import Any

import keras

from tfnode.layers import ODEBlock
from tfnode.layers.portable import obstacle, portable_states
from tfnode.layers.precision import cast
from tfnode.runs.errors import RunError

HALF = {"bfloat16", "float16"}
REMEDY = "Export it with --format=saved_model"


class PortableBlock(ODEBlock):
    """An `ODEBlock` for inference, without what the converters cannot convert."""

    def call(
        self,
        inputs: Any,
        times: Any = None,
        context: Any = None,
        training: bool | None = None,
        times_mask: Any = None,
    ) -> Any:
        del training, times_mask
        if times is not None:
            raise RunError(
                "The converters need blocks whose times are their own. Received: times given "
                f"in the call of {self.name}. {REMEDY}."
            )
        inputs, context = (cast(x, self.compute_dtype) for x in (inputs, context))
        return portable_states(self, inputs, context)


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
            message = obstacle(layer, file_format, REMEDY)
            if message is not None:
                raise RunError(message)
        # Half precision becomes float32, see `in_float32`.
        if file_format != "saved_model" and layer.compute_dtype not in {"float32", *HALF}:
            raise RunError(
                f"--format={file_format} needs a model that computes in float32. Received: "
                f"{layer.name} in {layer.compute_dtype}. {REMEDY}, or train with "
                "--precision=float32."
            )
