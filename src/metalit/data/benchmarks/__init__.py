"""The published image data sets of few-shot learning, from every form in which people have them on disk."""

from metalit.data.benchmarks.base import ImageBenchmark
from metalit.data.benchmarks.cifar100 import CIFARFS, FC100
from metalit.data.benchmarks.cub import CUB
from metalit.data.benchmarks.imagenet import MiniImageNet, TieredImageNet

__all__ = ["CIFARFS", "CUB", "FC100", "ImageBenchmark", "MiniImageNet", "TieredImageNet"]
