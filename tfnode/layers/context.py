"""The context of an `ODEBlock`: what its dynamics are told beside time and state."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


class TakesContext:
    """The part of a layer that knows the dtypes of its context: Keras tells `build` the shapes."""

    _context_dtypes: tuple = ()
    compute_dtype: str

    def __call__(self, *args: Any, context: Any = None, **kwargs: Any) -> Any:
        if context is None:
            return super().__call__(*args, **kwargs)  # type: ignore[misc]
        context = keras.tree.map_structure(_tensor, context)
        leaves = keras.tree.flatten(context)
        if not leaves:
            raise ValueError(
                f"`context` must hold at least one tensor. Received: context={context}"
            )
        dtypes = [keras.backend.standardize_dtype(x.dtype) for x in leaves]
        self._context_dtypes = tuple(self.compute_dtype if "float" in x else x for x in dtypes)
        return super().__call__(*args, context=context, **kwargs)  # type: ignore[misc]

    def get_build_config(self) -> dict[str, Any] | None:
        config = super().get_build_config()  # type: ignore[misc]
        if not config or not self._context_dtypes:
            return config
        return {**config, "context_dtypes": list(self._context_dtypes)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        config = dict(config)
        self._context_dtypes = tuple(config.pop("context_dtypes", ()))
        super().build_from_config(config)  # type: ignore[misc]


def _tensor(x: Any) -> Any:
    """Return a part of a context as a tensor, or raise `ValueError`."""
    if x is None or isinstance(x, tf.RaggedTensor):
        raise ValueError(
            "`context` must be a nest of tensors, without None and ragged ones. "
            f"Received: context with {x}"
        )
    return x if hasattr(x, "dtype") else tf.convert_to_tensor(np.asarray(x))
