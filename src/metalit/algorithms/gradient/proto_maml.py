"""Proto-MAML (Triantafillou et al. 2020, https://arxiv.org/abs/1903.03096), section 3, which has no algorithm box.

    1  initialise theta, the parameters of the embedding f
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                       (data module)
    4      for each T_b
    5          c_k = mean of f(x; theta) over the support examples of class k
    6          theta_b = theta;  W_k = 2 c_k;  b_k = -|c_k|^2
    7          repeat inner_steps times:  (theta_b, W, b) <- (theta_b, W, b) - alpha grad L(theta_b, W, b; D_b)
    8      theta <- theta - beta grad_theta sum_b L(theta_b, W, b; D'_b)                             (engine, Lightning)

The logits are W f(x) + b. Before line 7 they are -|f(x) - c_k|^2 + |f(x)|^2, those of prototypical networks up to a
constant per example. Line 8 differentiates through lines 7 and 6, that is through the prototypes too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.distances import class_means
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope
from metalit.tasks.precision import full_precision
from metalit.update_rules import SGD


class ProtoMAML(GradientBasedMetaLearner):
    """MAML whose output layer starts, in each task, as the prototypical network of the support set.

    One model handles any number of ways: N is the largest support label plus one.

    Differences from the paper: its text was not at hand. The formulas of line 6, the mean inner loss and the gradient
    through line 6 are those of the authors' code (google-research/meta-dataset, ``MAMLLearner`` with
    ``proto_maml_fc_layer_init``). Their configurations are of first order, leave batch norm out of the inner loop and
    start from a pretrained network; here the settings ``first_order``, ``adapted`` and ``pretrained`` do that.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate of embedding and output layer; > 0. The weights 2 c_k are larger than
            those of a learned head, and so are the gradients of the embedding: it needs a smaller rate than MAML.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``; ``adapted`` are patterns of the
            embedding's parameters, and the output layer always adapts.

    Raises:
        UserError: tasks that are not classification.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 0.01, **learner: Any) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), **learner)

    @property
    def adapted_names(self) -> list[str]:
        """Names of what adapts: the embedding's parameters with ``network.`` in front, and the output layer's."""
        # the rule of the base class, repeated since torch.compile cannot trace ``super()`` of a property; the prefix
        # keeps the names of the embedding apart from those of the layer
        moving = [name for name in self.may_adapt if self.network.get_parameter(name).requires_grad]
        return [*(f"network.{name}" for name in moving), "layer.weight", "layer.bias"]

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return theta and the output layer of the prototypes, and the state of the update rule."""
        self.check(meta, support, 0)
        adapted = {name: meta[name] for name in self.adapted_names if name in meta}
        features = self.embed(meta, adapted, support.x)
        adapted |= prototype_layer(features, support.y, len(meta["classes"]), support.mask)  # lines 5 and 6
        return adapted, self.update_rule.init(adapted)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b, W and b after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 7
        return self.update(meta, gradient, state, adapted, loss)

    def embed(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return embeddings ``[n, D]`` of inputs ``[n, ...]``, with one task's adapted parameters."""
        return functional_call(self.network, scope(meta | adapted, "network"), (x,))  # type: ignore[no-any-return]

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return logits ``[n, N]`` for inputs ``[n, ...]``, with one task's adapted parameters."""
        return linear(self.embed(meta, adapted, x), adapted["layer.weight"], adapted["layer.bias"])

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Adapt on the support set, then evaluate on the query set."""
        return super().task(with_classes(meta, ways), support, query, ways, measure)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Evaluate on the query set before the first and after each inner step: T = 1 + the number of steps."""
        return super().evaluate_task(with_classes(meta, ways), support, query, ways)

    def learn(self, meta: Params, support: Labelled, ways: int) -> Params:
        """Return the adapted parameters of one task."""
        return super().learn(with_classes(meta, ways), support, ways)

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Refuse regression tasks; any number of classes can be learned."""
        if support.y.is_floating_point():
            raise UserError("ProtoMAML starts from class means, but the labels are floats: take MAML for regression")


def with_classes(meta: Params, ways: int) -> Params:
    """Return ``meta`` with an entry ``classes`` of length N, for ``start``."""
    # ``start`` is not told the number of ways, and under vmap it cannot be read off the labels; a length can
    return meta | {"classes": torch.arange(ways)}


@full_precision
def prototype_layer(features: Tensor, y: Tensor, ways: int, mask: Tensor | None = None) -> Params:
    """Return the linear layer whose logits are negative squared distances to the class means, up to a constant.

    Args:
        features: support embeddings ``[S, D]``.
        y: ``[S]`` int64 labels in 0..ways-1, each at least once.
        ways: N.
        mask: ``[S]`` bool, True where there is an example; None if there is one at every place.

    Returns:
        ``layer.weight [N, D]``, 2 c_k, and ``layer.bias [N]``, -|c_k|^2.
    """
    prototypes = class_means(features, y, ways, mask)
    return {"layer.weight": 2 * prototypes, "layer.bias": -prototypes.square().sum(dim=-1)}


@full_precision
def linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return logits ``[n, N]`` of embeddings ``[n, D]``."""
    # differences of large terms, in which half precision would lose the distance between close prototypes
    return F.linear(features, weight, bias)
