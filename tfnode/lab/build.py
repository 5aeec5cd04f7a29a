"""The compiled model of an experiment."""

from typing import Any

import keras
import tensorflow as tf

from tfnode import data, losses, metrics, models
from tfnode.data.dataset import MEAN, STANDARD_DEVIATION
from tfnode.lab.optimization import optimizer
from tfnode.lab.settings import Settings
from tfnode.runs.record import FROM_PIXELS


class Pixels(data.Dataset):
    """Images of 0 to 255 as float32, for a model that normalises them itself."""

    __slots__ = ()

    @staticmethod
    def inputs(x: Any) -> tf.Tensor:
        return tf.cast(x, tf.float32)


def compiled_model(settings: Settings, dataset: data.Dataset) -> keras.Model:
    """Return the model that the settings describe, compiled for a data set.

    For `Pixels` its first layer normalises them, so that it is in all files of the model, too.
    """
    function = getattr(models, settings.model.name)
    model = function(**dataset.shape, **settings.model.arguments())
    if isinstance(dataset, Pixels):
        model = _from_pixels(model)
    if settings.kind == "spirals":
        # Models know the noise, as in the paper's own code.
        loss = losses.GaussianLikelihood(settings.data_options["noise"])
        score: str | keras.metrics.Metric = metrics.RootMeanSquaredError()
    else:
        loss, score = keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"
    model.compile(
        optimizer=optimizer(settings, settings.epochs * dataset.steps(settings.batch_size)),
        loss=loss,
        weighted_metrics=[score],  # All samples weigh the same, but under a strategy.
        jit_compile=settings.jit_compile,
    )
    return model


def _from_pixels(model: keras.Model) -> keras.Model:
    """Return a model of the same layers after one that normalises images of 0 to 255."""
    images = keras.Input(model.input_shape[1:], name="pixels")
    # float32, since half precision would round the normalised values.
    normalized = keras.layers.Rescaling(
        1 / (255 * STANDARD_DEVIATION),
        -MEAN / STANDARD_DEVIATION,
        name=FROM_PIXELS,
        dtype="float32",
    )(images)
    # The layers themselves, and not copies, so that their initial weights stay.
    outputs = model._run_through_graph([normalized], operation_fn=lambda layer: layer)
    return keras.Model(images, outputs, name=model.name)
