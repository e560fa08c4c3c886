"""Memory-augmented neural network, MANN (Santoro et al. 2016, https://arxiv.org/abs/1605.06065), sections 2 and 3.

     1  initialise the controller
     2  while not done
     3      sample tasks, each with new classes, labels and examples                            (data module)
     4      for each task
     5          read (x_1, 0), (x_2, y_1), ..., (x_S, y_(S-1)): each label arrives one step late
     6              h_t = LSTM([x_t, y_(t-1), r_(t-1)], h_(t-1))
     7              w^w = g w^r_(t-1) + (1 - g) w^lu,  w^lu the slots used least          (write_weights, least_used)
     8              M_t = M_(t-1) with the least used slot set to zero, + w^w a_t                            (write)
     9              w^r = softmax(cos(k_t, M_t)),  r_t = w^r M_t                                      (read_weights)
    10              w^u = gamma w^u + w^r + w^w
    11              p(y_t | ...) = softmax(W [h_t, r_t])
    12          read each query (x, y_S) as a separate next step
    13      minimise the loss of all steps, those of the support set and the queries            (engine, Lightning)

Key k, content a and gate g of each head are linear functions of h_t, through tanh, tanh and sigmoid.
"""

from typing import Any

import torch
from torch import Tensor, nn

from metalit.algorithms.memory.base import MemoryMetaLearner
from metalit.algorithms.memory.sequence import label_encoding
from metalit.episode import Labelled
from metalit.functional.sequence import delayed
from metalit.networks.embedding_length import embedding_length
from metalit.networks.memory_controller import MemoryController
from metalit.tasks.method_call import Method, functional_call
from metalit.tasks.parameters import Params, scope


class MANN(MemoryMetaLearner):
    """Reads a task with an LSTM that has an external memory, and predicts at every step.

    Args:
        network: the embedding of single inputs, ``[n, ...]`` to ``[n, features]``; ``Pixels`` in the paper.
        ways: N, the number of classes of every task.
        hidden: width of the LSTM, >= 1.
        slots: number of memory slots, >= heads.
        slot_size: length of a slot, >= 1.
        heads: number of heads, each of which reads and writes at every step, >= 1.
        usage_decay: gamma, the decay of a slot's usage per step, in [0, 1].
        key_strength: factor of the cosines before the softmax of a read, > 0; 1 in the paper. With a larger factor a
            head reads few slots only, and training leaves its first plateau much sooner.
        features: length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, or tasks with a number of classes other than ``ways``.
    """

    def __init__(
        self,
        network: nn.Module,
        ways: int = 5,
        hidden: int = 200,
        slots: int = 128,
        slot_size: int = 40,
        heads: int = 4,
        usage_decay: float = 0.95,
        key_strength: float = 1.0,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(network, ways=ways, **learner)
        self.controller = MemoryController(
            inputs=embedding_length(network, features, type(self).__name__) + ways,
            outputs=ways,
            hidden=hidden,
            slots=slots,
            slot_size=slot_size,
            heads=heads,
            usage_decay=usage_decay,
            key_strength=key_strength,
        )
        # in a tuple: as a plain attribute it would register the controller's parameters a second time
        self._next_step = (Method(self.controller, "next_step"),)

    def read(self, meta: Params, support: Labelled) -> tuple[Any, Tensor]:
        """Return the controller's state with the last label, and a prediction for each example before its label."""
        codes = delayed(label_encoding(support.y, self.ways, support.x.dtype))
        inputs = torch.cat([support.x, codes[:-1]], dim=-1)  # line 5
        state, predictions = functional_call(self.controller, scope(meta, "controller"), (inputs,))
        return (state, codes[-1]), predictions

    def answer(self, meta: Params, memory: Any, query: Any) -> Tensor:
        """Return predictions for the queries, each read as the next step after the support set (line 12)."""
        # the last support label is still due: it arrives with the query
        state, last_label = memory
        inputs = torch.cat([query, last_label.expand(query.shape[0], -1)], dim=-1)
        return self._next_step[0].with_parameters(scope(meta, "controller"), inputs, state)  # type: ignore[no-any-return]
