"""Names, configs and instances of strategies: what `solvers` and `gradients` share."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


@tf.autograph.experimental.do_not_convert
def get(
    kind: str,
    identifier: Any,
    classes: dict[str, Callable[[], type]],
    instance_of: type,
) -> Any:
    """Resolve an identifier the way Keras resolves optimizers.

    Args:
        kind: What is looked for, for the error: "solver", "gradient".
        identifier: A name, a config made by `serialize`, or an instance.
        classes: `name -> () -> class`.
        instance_of: The class that instances must belong to.

    Raises:
        ValueError: If the identifier is none of those; the names are listed.
    """
    if isinstance(identifier, str):
        # Without regard to case, as in Keras.
        if identifier.lower() in classes:
            return classes[identifier.lower()]()()
    elif isinstance(identifier, dict):
        return deserialize(kind, identifier, classes, instance_of)
    elif isinstance(identifier, instance_of):
        return identifier
    raise ValueError(
        f"A {kind} is one of the names {sorted(classes)}, a config, or an instance of "
        f"{instance_of.__name__}. Received: {identifier!r}"
    )


def serialize(kind: str, instance: Any) -> dict:
    """Return the config of a solver or gradient, for `get_config` of a layer."""
    try:
        return keras.saving.serialize_keras_object(instance)
    except TypeError as error:
        raise ValueError(
            f"This {kind} cannot be saved, since it has no `get_config`: use one of tfnode's, or "
            "a subclass with `get_config`, registered by "
            f"`keras.saving.register_keras_serializable`. Received: {instance!r}"
        ) from error


def deserialize(
    kind: str,
    config: dict,
    classes: dict[str, Callable[[], type]],
    instance_of: type,
) -> Any:
    """Return the instance that a config of `serialize` describes.

    Keras's own function looks for classes by the names of modules in the config too. A config
    may come with a file, so here a class must be known already.

    Raises:
        ValueError: If the config is none of `serialize`, or of a class that is not registered.
    """
    for load in classes.values():
        load()  # Importing a class registers it with Keras.
    name, arguments = config.get("registered_name"), config.get("config")
    found = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if (
        not isinstance(found, type)
        or not issubclass(found, instance_of)
        or not isinstance(arguments, dict)
    ):
        raise ValueError(
            f"Not the config of a {kind}, or of a class that is not registered by "
            f"`keras.saving.register_keras_serializable`. Received: {config!r}"
        )
    try:
        return found.from_config(arguments)  # type: ignore[attr-defined]
    except TypeError as error:
        raise ValueError(f"Not the config of a {kind}: {error}. Received: {config!r}") from error
