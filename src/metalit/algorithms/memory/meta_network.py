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

[W, W*] is a network with two paths in every layer (``AugmentedConvNet``). Gradients enter lines 5 and 7 as constants.
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
    """Turns the gradients of a task's support set into fast weights, and reads them from a memory for each query.

    Args:
        network: the base learner; its number of classes is that of every task. The key network has the same form.
        fast: shell-style patterns of the parameters that have fast weights beside them, in both networks; all in the
            paper. Time and memory grow with their number, ``["hidden.*", "head.*"]`` is the cheapest that works.
        generator_size: width of the networks m and d, >= 1.
        key_steps: in how many parts the support set is cut for the key network, >= 1; not more than it has examples.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: a number below 1, a pattern that matches no parameter, or tasks that are not as announced.
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
        self.fast_names, self.key_steps = list(select(network, fast)), key_steps
        # a key is taken below the head, which serves the loss of line 5 alone, and is never learned
        self.fast_key_names = [name for name in self.fast_names if not name.startswith("head.")]
        self.key_network = deepcopy(network)
        self.key_network.reset_parameters()
        head = self.key_network.head
        weight = head.weight.detach()
        del head.weight
        head.register_buffer("weight", weight)
        self.generators = nn.ModuleDict({kind: WeightGenerator(generator_size) for kind in self.kinds(self.fast_names)})
        self.key_generators = nn.ModuleDict(
            {kind: RecurrentWeightGenerator(generator_size) for kind in self.kinds(self.fast_key_names)}
        )

    def embed(self, meta: Params, x: Any) -> Any:
        """Return the inputs: both networks see them as they are."""
        return x

    def read(self, meta: Params, support: Labelled) -> tuple[Any, Tensor]:
        """Return the key network's fast weights, and the memory: an index and fast weights for each example."""
        fast_keys = self.generate_for_keys(meta, support)  # line 5
        index, _ = self.call("key_network", meta, support.x, fast_keys)
        return (fast_keys, index, self.generate(meta, support)), index.new_zeros(0, self.width)  # line 7

    def answer(self, meta: Params, memory: Any, query: Any) -> Tensor:
        """Return predictions of the queries, each by fast weights of its own."""
        fast_keys, index, slots = memory
        keys, _ = self.call("key_network", meta, query, fast_keys)
        reading = read_weights(keys, index)  # line 9
        fast = {name: mixtures(reading, values) for name, values in slots.items()}

        def predict(x: Tensor, fast: Params) -> Tensor:
            return self.call("network", meta, x.unsqueeze(0), fast)[1].squeeze(0)  # line 10

        return map_rows(predict, query, fast)  # type: ignore[no-any-return]

    def generate_for_keys(self, meta: Params, support: Labelled) -> Params:
        """Return Q* by name (line 5)."""
        steps = min(self.key_steps, len(support.y))
        parts = [
            Labelled(x, y) for x, y in zip(support.x.tensor_split(steps), support.y.tensor_split(steps), strict=True)
        ]
        gradients = [self.gradient("key_network", self.fast_key_names, meta, *part) for part in parts]
        fast = {}
        for name in self.fast_key_names:
            one_by_one = torch.stack([gradient[name].flatten() for gradient in gradients])
            weights = self.generated("key_generators", meta, name, one_by_one)
            fast[name] = weights.reshape(gradients[0][name].shape)
        return fast

    def generate(self, meta: Params, support: Labelled) -> Params:
        """Return W*_i of every support example by name, ``[S, *shape]`` (line 7)."""

        def of_one(x: Tensor, y: Tensor) -> Params:
            return self.gradient("network", self.fast_names, meta, x.unsqueeze(0), y.unsqueeze(0))

        gradients = map_rows(of_one, *support)
        return {name: self.generated("generators", meta, name, gradients[name]) for name in self.fast_names}

    def gradient(self, part: str, names: Sequence[str], meta: Params, x: Tensor, y: Tensor) -> Params:
        """Return the gradient of the loss of a network's slow path, as a constant."""
        slow = detached(scope(meta, part))

        def loss(moving: Params) -> Tensor:
            return task_loss(functional_call(self.get_submodule(part), {**slow, **moving}, (x,))[1], y)

        with without_autocast(x.device):
            return grad(loss)({name: slow[name] for name in names})  # type: ignore[no-any-return]

    def generated(self, part: str, meta: Params, name: str, gradients: Tensor) -> Tensor:
        """Return fast weights for one parameter, from the generator of its kind."""
        generator = f"{part}.{kind_of(self.network.get_parameter(name))}"
        return functional_call(self.get_submodule(generator), scope(meta, generator), (gradients,))  # type: ignore[no-any-return]

    def call(self, part: str, meta: Params, x: Tensor, fast: Params) -> tuple[Tensor, Tensor]:
        """Return hidden layer and logits by both paths of a network."""
        return functional_call(self.get_submodule(part), scope(meta, part), (x, fast))  # type: ignore[no-any-return]

    def kinds(self, names: Sequence[str]) -> list[str]:
        """Return which generators some parameters need."""
        return sorted({kind_of(self.network.get_parameter(name)) for name in names})


def kind_of(parameter: Tensor) -> str:
    """Return which generator serves a parameter: there is one for convolutions and one for linear layers."""
    return "convolution" if parameter.dim() > 2 else "linear"
