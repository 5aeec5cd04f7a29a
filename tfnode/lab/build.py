"""The compiled model of an experiment."""

import keras

from tfnode import data, losses, metrics, models
from tfnode.lab.optimization import optimizer
from tfnode.lab.settings import Settings


def compiled_model(settings: Settings, dataset: data.Dataset) -> keras.Model:
    """Return the model that the settings describe, compiled for a data set."""
    model = getattr(models, settings.model.name)(**settings.model.arguments())
    if settings.takes_series:
        # Models know the noise, as in the paper's own code.
        loss = losses.GaussianLikelihood(settings.spirals.noise)
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
