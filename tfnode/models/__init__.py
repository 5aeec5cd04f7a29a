"""Functions that return Keras models: classifiers with logits out, densities, time series."""

from tfnode.models.anode import anode
from tfnode.models.cnf import cnf
from tfnode.models.cnn1d import cnn1d
from tfnode.models.gru import gru
from tfnode.models.latent_ode import latent_ode
from tfnode.models.linear_series import linear_series
from tfnode.models.neural_cde import neural_cde
from tfnode.models.normalizing_flow import NormalizingFlow
from tfnode.models.ode_rnn import ode_rnn
from tfnode.models.ode_tuned import ode_tuned
from tfnode.models.odenet import odenet
from tfnode.models.resnet18 import resnet18
from tfnode.models.rnn_forecaster import rnn_forecaster

__all__ = [
    "NormalizingFlow",
    "anode",
    "cnf",
    "cnn1d",
    "gru",
    "latent_ode",
    "linear_series",
    "neural_cde",
    "ode_rnn",
    "ode_tuned",
    "odenet",
    "resnet18",
    "rnn_forecaster",
]
