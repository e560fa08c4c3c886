"""The published image data sets of few-shot learning, from every form in which people have them on disk."""

from metalit.data.benchmarks.base import ImageBenchmark
from metalit.data.benchmarks.cifar100 import CIFARFS, FC100

__all__ = ["CIFARFS", "FC100", "ImageBenchmark"]
