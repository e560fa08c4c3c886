"""Meta networks (Munkhdalai and Yu 2017, https://arxiv.org/abs/1703.00837), algorithm 1.

     1  initialise the base learner b with slow weights W, the key network u with slow weights Q, and the generators
        of fast weights m and d
     2  while not done
     3      sample tasks, each with a support set D and queries                                 (data module)
     4      for each task
     5          Q* = d(g_1, g_2, ...),  g_t = grad_Q L(u(Q, x), y) over the t-th part of D
     6          for each (x_i, y_i) of D
     7              W*_i = m(grad_W L(b(W, x_i), y_i));   r_i = u([Q, Q*], x_i):   memory of fast weights, and its index
     8          for each query x
     9              a = softmax_i cos(r_i, u([Q, Q*], x));   W* = sum_i a_i W*_i
    10              p(y | x) = softmax(b([W, W*], x))
    11      minimise the loss of the queries over W, Q, m and d                                 (engine, Lightning)

[W, W*] is a network with a slow and a fast path in every layer (``AugmentedConvNet``). The gradients of lines 5 and 7
are constants.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad

from metalit.algorithms.memory.base import MemoryMetaLearner
from metalit.episode import Labelled
from metalit.errors import at_least
from metalit.functional.losses import task_loss
from metalit.functional.memory import mixtures, read_weights
from metalit.networks.augmented_conv_net import AugmentedConvNet
from metalit.networks.fast_weights import RecurrentWeightGenerator, WeightGenerator
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, detached, scope, select
from metalit.tasks.precision import without_autocast
from metalit.tasks.task_context import map_rows


class MetaNetwork(MemoryMetaLearner):
    """Turns the gradients of support examples into fast weights, and reads them from a memory for each query.

    Args:
        network: the base learner, whose number of classes is that of every task. The key network has the same
            architecture.
        fast: shell-style patterns of the parameters that have fast weights, in both networks (never the head of the
            key network); default, and in the paper: all. Time and memory grow with their number. The cheapest choice
            that works is ``["hidden.*", "head.*"]``.
        generator_size: width of the networks m and d, >= 1.
        key_steps: number of parts into which the support set is split for the key network, >= 1; at most one part per
            example is used.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number below 1, a pattern that matches no parameter, or tasks with another number of classes.
    """

    def __init__(
        self,
        network: AugmentedConvNet,
        fast: Sequence[str] = ("*",),
        generator_size: int = 20,
        key_steps: int = 5,
        **learner: Any,
    ) -> None:
        super().__init__(network, ways=network.ways, **learner)
        at_least(1, generator_size=generator_size, key_steps=key_steps)
        self.fast_names, self.key_steps = list(select(network, fast, "fast")), key_steps
        # a key is the hidden layer below the head. The head serves the loss of line 5 alone: as in the authors' code it
        # is never trained and has no fast weights
        self.fast_key_names = [name for name in self.fast_names if not name.startswith("head.")]
        self.key_network = deepcopy(network)
        self.key_network.reset_parameters()  # a copy has the base learner's weights
        head = self.key_network.head
        # as a buffer: never trained, but saved in checkpoints
        weight = head.weight.detach()
        del head.weight
        head.register_buffer("weight", weight)
        # one generator for convolutions and one for linear layers, as in the authors' code
        self.generators = nn.ModuleDict({kind: WeightGenerator(generator_size) for kind in self.kinds(self.fast_names)})
        self.key_generators = nn.ModuleDict(
            {kind: RecurrentWeightGenerator(generator_size) for kind in self.kinds(self.fast_key_names)}
        )

    def embed(self, meta: Params, x: Any) -> Any:
        """Return the inputs unchanged: base learner and key network embed them themselves."""
        return x

    def read(self, meta: Params, support: Labelled) -> tuple[Any, Tensor]:
        """Return the memory: the key network's fast weights, and an index and fast weights for each example."""
        fast_keys = self.generate_for_keys(meta, support)  # line 5
        index, _ = self.call("key_network", meta, support.x, fast_keys)
        return (fast_keys, index, self.generate(meta, support)), index.new_zeros(0, self.width)  # line 7

    def answer(self, meta: Params, memory: Any, query: Any) -> Tensor:
        """Return predictions for the queries, each with fast weights of its own (lines 9 and 10)."""
        fast_keys, index, slots = memory
        keys, _ = self.call("key_network", meta, query, fast_keys)
        reading = read_weights(keys, index)  # line 9
        fast = {name: mixtures(reading, values) for name, values in slots.items()}

        # each query has weights of its own, so queries are computed row by row
        def predict(x: Tensor, fast: Params) -> Tensor:
            return self.call("network", meta, x.unsqueeze(0), fast)[1].squeeze(0)  # line 10

        return map_rows(predict, query, fast)  # type: ignore[no-any-return]

    def generate_for_keys(self, meta: Params, support: Labelled) -> Params:
        """Return the key network's fast weights Q* by name (line 5)."""
        steps = min(self.key_steps, len(support.y))
        parts = [
            Labelled(x, y) for x, y in zip(support.x.tensor_split(steps), support.y.tensor_split(steps), strict=True)
        ]
        gradients = [self.gradient("key_network", self.fast_key_names, meta, *part) for part in parts]
        fast = {}
        for name in self.fast_key_names:
            # one sequence per coordinate: the recurrent generator d reads the gradients of the parts in order
            one_by_one = torch.stack([gradient[name].flatten() for gradient in gradients])
            weights = self.generated("key_generators", meta, name, one_by_one)
            fast[name] = weights.reshape(gradients[0][name].shape)
        return fast

    def generate(self, meta: Params, support: Labelled) -> Params:
        """Return the fast weights W*_i of each support example by name, ``[S, *shape]`` (line 7)."""

        def of_one(x: Tensor, y: Tensor) -> Params:
            return self.gradient("network", self.fast_names, meta, x.unsqueeze(0), y.unsqueeze(0))

        gradients = map_rows(of_one, *support)
        return {name: self.generated("generators", meta, name, gradients[name]) for name in self.fast_names}

    def gradient(self, part: str, names: Sequence[str], meta: Params, x: Tensor, y: Tensor) -> Params:
        """Return the gradient of the loss of a network's slow path, detached."""
        # constants, as in the authors' code: no second derivatives
        slow = detached(scope(meta, part))

        def loss(moving: Params) -> Tensor:
            return task_loss(functional_call(self.get_submodule(part), {**slow, **moving}, (x,))[1], y)

        with without_autocast(x.device):
            return grad(loss)({name: slow[name] for name in names})  # type: ignore[no-any-return]

    def generated(self, part: str, meta: Params, name: str, gradients: Tensor) -> Tensor:
        """Return the fast weights of one parameter, from the generator for its kind."""
        generator = f"{part}.{kind_of(self.network.get_parameter(name))}"
        return functional_call(self.get_submodule(generator), scope(meta, generator), (gradients,))  # type: ignore[no-any-return]

    def call(self, part: str, meta: Params, x: Tensor, fast: Params) -> tuple[Tensor, Tensor]:
        """Return hidden layer and logits of a network, with slow and fast path."""
        return functional_call(self.get_submodule(part), scope(meta, part), (x, fast))  # type: ignore[no-any-return]

    def kinds(self, names: Sequence[str]) -> list[str]:
        """Return the kinds of generator that the named parameters need."""
        return sorted({kind_of(self.network.get_parameter(name)) for name in names})


def kind_of(parameter: Tensor) -> str:
    """Return the kind of generator for a parameter: ``convolution`` or ``linear``."""
    return "convolution" if parameter.dim() > 2 else "linear"
