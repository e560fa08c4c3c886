"""SNAIL, a simple neural attentive meta-learner (Mishra et al. 2018, https://arxiv.org/abs/1707.03141).

    1  initialise the embedding f and the causal layers g
    2  while not done
    3      sample tasks, each with a support set D and queries (x, y)                          (data module)
    4      for each task
    5          s = [f(x_1) y_1], ..., [f(x_S) y_S]: D in random order
    6          for each query:  p(y | x, D) = last output of g(s, [f(x) 0])
    7      minimise the loss of the queries                                                    (engine, Lightning)

    g = attention, (temporal convolutions, attention) repeated, a linear layer; each layer appends to its input

g is causal, so its activations on s are the same for all queries and are computed once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metalit.algorithms.memory.base import MemoryMetaLearner
from metalit.algorithms.memory.sequence import label_encoding
from metalit.episode import Labelled
from metalit.errors import SettingError, at_least, check
from metalit.networks.causal import AttentionBlock, CausalLayers, TCBlock
from metalit.networks.embedding_length import embedding_length
from metalit.tasks.method_call import Method
from metalit.tasks.parameters import Params, scope


class SNAIL(MemoryMetaLearner):
    """Reads a task with causal convolutions and attention.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, features]``.
        support_size: S, the maximum number of support examples of a task, in training and at test time, >= 1. It
            sets the number of convolutions, so that they reach back over all examples.
        filters: number of channels that each convolution appends, >= 1.
        attention: [length of a key, length of a value] of each attention layer, each >= 1. Convolutions stand between
            consecutive attention layers.
        features: length of an embedding; default: ``network.features``.
        **learner: the settings of ``MemoryMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a number outside its range, or tasks that do not match ``ways``, ``outputs`` or ``support_size``.
    """

    def __init__(
        self,
        network: nn.Module,
        support_size: int = 5,
        filters: int = 128,
        attention: Sequence[tuple[int, int]] = ((64, 32), (256, 128), (512, 256)),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(network, **learner)
        at_least(1, support_size=support_size, filters=filters)
        is_right = bool(attention) and min(map(min, attention)) >= 1
        check("attention", list(attention), is_right, "pairs of lengths, each length at least 1")
        self.support_size = support_size
        channels = embedding_length(network, features, type(self).__name__) + self.width
        layers: list[AttentionBlock | TCBlock] = []
        for key_size, value_size in attention:
            if layers:
                # + 1 for the query, the last step of the sequence
                layers.append(TCBlock(channels, filters, support_size + 1))
                channels = layers[-1].features
            layers.append(AttentionBlock(channels, key_size, value_size))
            channels = layers[-1].features  # the input of a layer with its output appended
        self.layers = CausalLayers(layers, self.width)
        # in tuples: as plain attributes they would register the layers' parameters a second time
        self._read, self._next_step = ((Method(self.layers, name),) for name in ("read", "next_step"))

    def read(self, meta: Params, support: Labelled) -> tuple[Any, Tensor]:
        """Return the state of every layer after the support set, and no predictions for support examples."""
        shots = len(support.y)
        if shots > self.support_size:
            expected = f"at least {shots}, the support examples of a task: convolutions reach no further back"
            raise SettingError("support_size", self.support_size, expected, owner=type(self))
        inputs = torch.cat([support.x, label_encoding(support.y, self.ways, support.x.dtype)], dim=-1)  # line 5
        memory = self._read[0].with_parameters(scope(meta, "layers"), inputs)
        return memory, support.x.new_zeros(0, self.width)

    def answer(self, meta: Params, memory: Any, query: Any) -> Tensor:
        """Return predictions for the queries, each read as a separate last step (line 6)."""
        # zeros in the place of the unknown label
        inputs = torch.cat([query, query.new_zeros(query.shape[0], self.width)], dim=-1)
        return self._next_step[0].with_parameters(scope(meta, "layers"), inputs, memory)  # type: ignore[no-any-return]  # line 6
