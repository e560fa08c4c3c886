"""Generative methods: a generator of examples is trained against the classifier."""

from metalit.algorithms.generative.base import GenerativeMetaLearner
from metalit.algorithms.generative.metagan_maml import MetaGANMAML
from metalit.algorithms.generative.metagan_relation_network import MetaGANRelationNetwork

__all__ = ["GenerativeMetaLearner", "MetaGANMAML", "MetaGANRelationNetwork"]
