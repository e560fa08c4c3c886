"""Class means that move towards confident, diverse predictions for all queries of a task (TIM and alpha-TIM)."""

from torch import Tensor
from torch.func import grad

from metalit.episode import Labelled
from metalit.errors import not_negative, positive
from metalit.functional.distances import class_means
from metalit.functional.entropies import conditional_entropy, marginal_entropy
from metalit.functional.losses import task_loss
from metalit.heads.base import Head
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision
from metalit.update_rules import Adam

Fitted = tuple[Tensor, Tensor, Tensor]


class InformationMaximization(Head):
    """Gradient descent of class weights on the support loss minus the information about the queries.

        logits    l(x) = - temperature/2 ||x - w_k||^2,    w_k = class mean at first
        loss      support_weight CE(support) - marginal_weight H(mean of p) + conditional_weight mean of H(p)

    with p the predictions for the queries. H is Shannon's entropy, or the alpha-entropy.

    Args:
        temperature: factor of half the squared distances, > 0.
        support_weight: of the support cross-entropy, >= 0.
        marginal_weight: of the entropy of the mean prediction, >= 0.
        conditional_weight: of the mean entropy of predictions, >= 0.
        alpha: of the entropies, > 0; 1 is Shannon's.
        learning_rate: Adam's, > 0.
        steps: steps of Adam, >= 0.

    Raises:
        SettingError: a number is out of range.
    """

    transductive = True

    def __init__(
        self,
        temperature: float = 15.0,
        support_weight: float = 0.1,
        marginal_weight: float = 1.0,
        conditional_weight: float = 0.1,
        alpha: float = 1.0,
        learning_rate: float = 1e-4,
        steps: int = 1000,
    ) -> None:
        super().__init__()
        self.temperature, self.alpha = positive("temperature", temperature), positive("alpha", alpha)
        self.support_weight = not_negative("support_weight", support_weight)
        self.marginal_weight = not_negative("marginal_weight", marginal_weight)
        self.conditional_weight = not_negative("conditional_weight", conditional_weight)
        positive("learning_rate", learning_rate)
        self.steps = not_negative("steps", steps)
        self.adam = Adam(learning_rate, beta1=0.9)

    def fit(self, support: Labelled, ways: int) -> Fitted:
        """Return class means ``[N, D]`` and the support set; the rest needs the queries."""
        return class_means(support.x, support.y, ways), support.x, support.y

    @full_precision
    def classify(self, fitted: Fitted, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]`` after the last step."""
        means, x, y = fitted

        def loss(weights: Params) -> Tensor:
            return self.loss(weights["weight"], Labelled(x, y), query)

        weights: Params = {"weight": means}
        state = self.adam.init(weights)
        for _ in range(self.steps):
            weights, state = self.adam(grad(loss)(weights), state, weights, means)
        return self.logits(weights["weight"], query)

    def logits(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return logits ``[n, N]`` of embeddings ``[n, D]``."""
        # the expanded square, a matrix product: a thousand steps are too slow with all differences
        squares = weights.square().sum(dim=-1) + x.square().sum(dim=-1, keepdim=True)
        return self.temperature * (x @ weights.mT - squares / 2)

    def loss(self, weights: Tensor, support: Labelled, query: Tensor) -> Tensor:
        """Return the loss of class weights ``[N, D]``, 0-d."""
        p = self.logits(weights, query).softmax(dim=-1)
        information = self.marginal_weight * marginal_entropy(p, self.alpha)
        information = information - self.conditional_weight * conditional_entropy(p, self.alpha)
        return self.support_weight * task_loss(self.logits(weights, support.x), support.y) - information
