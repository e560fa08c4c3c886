"""Network architectures.

The rule of this room: a network sees inputs only, never episodes, methods or the labels to predict.
"""

from metalit.networks.adapters import Bottleneck, Frozen, LoRA, Peft, SoftPrompt, Tuned
from metalit.networks.attentive_process import AttentiveProcess
from metalit.networks.augmented_conv_net import AugmentedConvNet
from metalit.networks.classifier import Classifier
from metalit.networks.complexes import AffinityHead, DensityHead, ProteinLigandNetwork
from metalit.networks.conditional_process import ConditionalProcess
from metalit.networks.context_mlp import ContextMLP
from metalit.networks.conv4 import Conv4
from metalit.networks.conv_maps import ConvMaps
from metalit.networks.drop_block import DropBlock
from metalit.networks.film_conv4 import FiLMConv4
from metalit.networks.graphs import GIN, GatedGCN, PyGNetwork
from metalit.networks.image_generator import ImageGenerator
from metalit.networks.joined import Joined
from metalit.networks.linear_head import LinearHead
from metalit.networks.mlp import MLP
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d, batch_norm_mode
from metalit.networks.pixels import Pixels
from metalit.networks.policies import CategoricalPolicy, GaussianPolicy, Policy, RecurrentPolicy
from metalit.networks.pretrained import Backbone, Pretrained, PretrainedNetwork
from metalit.networks.relation_encoder import RelationEncoder
from metalit.networks.relation_module import RelationModule
from metalit.networks.resnet12 import ResNet12
from metalit.networks.texts import BagOfWords, PretrainedText, StaticVectors, TextTransformer
from metalit.networks.vectors import Vectors
from metalit.networks.wide_resnet import WRN2810

__all__ = [
    "GIN",
    "MLP",
    "WRN2810",
    "AffinityHead",
    "AttentiveProcess",
    "AugmentedConvNet",
    "Backbone",
    "BagOfWords",
    "BatchNormMode",
    "Bottleneck",
    "CategoricalPolicy",
    "Classifier",
    "ConditionalProcess",
    "ContextMLP",
    "Conv4",
    "ConvMaps",
    "DensityHead",
    "DropBlock",
    "FiLMConv4",
    "Frozen",
    "GatedGCN",
    "GaussianPolicy",
    "ImageGenerator",
    "Joined",
    "LinearHead",
    "LoRA",
    "Peft",
    "Pixels",
    "Policy",
    "Pretrained",
    "PretrainedNetwork",
    "PretrainedText",
    "ProteinLigandNetwork",
    "PyGNetwork",
    "RecurrentPolicy",
    "RelationEncoder",
    "RelationModule",
    "ResNet12",
    "SoftPrompt",
    "StaticVectors",
    "TextTransformer",
    "Tuned",
    "Vectors",
    "batch_norm_2d",
    "batch_norm_mode",
]
