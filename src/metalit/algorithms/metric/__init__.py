"""Metric-based methods: learn a task by comparing embeddings."""

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.algorithms.metric.prototypical_network import PrototypicalNetwork

__all__ = ["MetricMetaLearner", "PrototypicalNetwork"]
