"""Keras layers: the ODE block, layers to build vector fields from, and layers for time series."""

from tfnode.layers.augment import Augment
from tfnode.layers.backward_encoder import BackwardEncoder
from tfnode.layers.bottleneck_dynamics import BottleneckDynamics
from tfnode.layers.concat_conv2d import ConcatConv2D
from tfnode.layers.concat_dense import ConcatDense
from tfnode.layers.conv_dynamics import ConvDynamics
from tfnode.layers.decay_rnn import DecayRNN
from tfnode.layers.dense_dynamics import DenseDynamics
from tfnode.layers.flow_block import FlowBlock
from tfnode.layers.forecaster import Forecaster
from tfnode.layers.fused_batch_normalization import FusedBatchNormalization
from tfnode.layers.gaussian_sampling import GaussianSampling
from tfnode.layers.neural_cde import NeuralCDE
from tfnode.layers.ode_block import ODEBlock
from tfnode.layers.ode_rnn import ODERNN
from tfnode.layers.series_grid import SeriesGrid
from tfnode.layers.time_batch_normalization import TimeBatchNormalization

__all__ = [
    "ODERNN",
    "Augment",
    "BackwardEncoder",
    "BottleneckDynamics",
    "ConcatConv2D",
    "ConcatDense",
    "ConvDynamics",
    "DecayRNN",
    "DenseDynamics",
    "FlowBlock",
    "Forecaster",
    "FusedBatchNormalization",
    "GaussianSampling",
    "NeuralCDE",
    "ODEBlock",
    "SeriesGrid",
    "TimeBatchNormalization",
]
