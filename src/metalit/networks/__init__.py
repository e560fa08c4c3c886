"""Architectures that know nothing of episodes."""

from metalit.networks.classifier import Classifier
from metalit.networks.conv4 import Conv4
from metalit.networks.mlp import MLP
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d, batch_norm_mode

__all__ = ["MLP", "BatchNormMode", "Classifier", "Conv4", "batch_norm_2d", "batch_norm_mode"]
