"""Memory-based methods: learn a task by reading its support set into a memory."""

from metalit.algorithms.memory.base import MemoryMetaLearner
from metalit.algorithms.memory.mann import MANN
from metalit.algorithms.memory.meta_network import MetaNetwork
from metalit.algorithms.memory.snail import SNAIL

__all__ = ["MANN", "SNAIL", "MemoryMetaLearner", "MetaNetwork"]
