"""Architectures that know nothing of episodes."""

from metalit.networks.classifier import Classifier
from metalit.networks.context_mlp import ContextMLP
from metalit.networks.conv4 import Conv4
from metalit.networks.film_conv4 import FiLMConv4
from metalit.networks.mlp import MLP
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d, batch_norm_mode
from metalit.networks.per_step_norms import PerStepNorms
from metalit.networks.relation_encoder import RelationEncoder

__all__ = [
    "MLP",
    "BatchNormMode",
    "Classifier",
    "ContextMLP",
    "Conv4",
    "FiLMConv4",
    "PerStepNorms",
    "RelationEncoder",
    "batch_norm_2d",
    "batch_norm_mode",
]
