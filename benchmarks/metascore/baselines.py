"""What a meta-learner must beat: models of the pooled training clusters, and models of one task alone."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from metalit.algorithms import MAML
from metalit.algorithms.task_learner import TaskLearner
from metalit.data import MetaScore
from metalit.episode import Complexes, Episode, Labelled
from metalit.metrics.task_metrics import rmse

Predict = Callable[[Episode], Tensor]
CLOSE = 7.0  # Å


def unadapted(learner: TaskLearner) -> Predict:
    """Return the predictions of a trained learner before any inner step."""
    return lambda episode: learner.evaluate(episode).predictions[:, 0]


def adapted(learner: TaskLearner) -> Predict:
    """Return the predictions of a trained learner after its inner steps."""
    return lambda episode: learner.evaluate(episode).predictions[:, -1]


def by_gradient_descent(learner: TaskLearner, inner_lr: float, inner_steps: int) -> Predict:
    """Return the predictions of a learner's network after steps of plain gradient descent on the support."""
    return adapted(MAML(deepcopy(learner.network), inner_lr=inner_lr, inner_steps=inner_steps).eval())


def from_scratch(learner: TaskLearner, inner_lr: float, inner_steps: int, seed: int = 0) -> Predict:
    """Return the predictions of such a network with random weights, trained on the support alone."""
    fresh = deepcopy(learner)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in fresh.network.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm):
                module.reset_parameters()
    return by_gradient_descent(fresh, inner_lr, inner_steps)


def mean_of_support(episode: Episode) -> Tensor:
    """Return the mean affinity of each support, for every query."""
    support = episode.support
    total = support.y.sum(dim=1, keepdim=True)
    count = support.y.shape[1] if support.mask is None else support.mask.sum(dim=1)[:, None, None]
    return (total / count).expand_as(episode.query.y)


class RidgePerTask:
    """Ridge regression on pooled features of a complex, fitted to the support of each task.

    Args:
        data: features are standardised by the training complexes of these.
        penalty: of the squared coefficients, > 0; the intercept is free.
    """

    def __init__(self, data: MetaScore, penalty: float) -> None:
        store = data.stores["train"]
        (complexes,) = store.parts(torch.arange(len(store.targets)))
        features = pooled_features(complexes)
        self.mean, self.std, self.penalty = features.mean(dim=0), features.std(dim=0), penalty

    def __call__(self, episode: Episode) -> Tensor:
        """Return predictions ``[B, Q, 1]``."""
        x, queries = (self._standardised(part) for part in (episode.support, episode.query))
        weight = torch.ones(x.shape[:2]) if episode.support.mask is None else episode.support.mask.float()
        weight = weight.unsqueeze(-1)
        count = weight.sum(dim=1, keepdim=True)
        centre, level = (weight * x).sum(1, keepdim=True) / count, (weight * episode.support.y).sum(1, True) / count
        x, y = weight * (x - centre), weight * (episode.support.y - level)
        kernel = x @ x.mT + self.penalty * torch.eye(x.shape[1])
        weights: Tensor = torch.linalg.solve(kernel, y)
        return level + (queries - centre) @ x.mT @ weights

    def _standardised(self, part: Labelled) -> Tensor:
        # a feature that never varies, such as an element that no ligand has, stays 0
        return (pooled_features(part.x) - self.mean) / self.std.clamp(min=1e-6)


def pooled_features(x: Complexes) -> Tensor:
    """Return ``[..., D]``: counts, mean features of both graphs, and the features of atoms in close pairs, summed."""
    parts = []
    for graphs in (x.pocket, x.ligand):
        for values, mask in ((graphs.nodes, graphs.node_mask), (graphs.edge_features, graphs.edge_mask)):
            count = mask.sum(dim=-1, keepdim=True)
            parts += [count.float(), values.sum(dim=-2) / count.clamp(min=1)]
    close = (x.distances < CLOSE) & x.pocket.node_mask.unsqueeze(-1) & x.ligand.node_mask.unsqueeze(-2)
    contacts = close.sum(dim=-2).float()  # of each atom
    return torch.cat([*parts, (contacts.unsqueeze(-1) * x.ligand.nodes).sum(dim=-2)], dim=-1)


def best(candidates: Iterable[Predict], episodes: Sequence[Episode]) -> Predict:
    """Return the candidate with the least error on validation episodes."""
    return min(candidates, key=lambda each: error(each, episodes))


def error(predict: Predict, episodes: Sequence[Episode]) -> float:
    """Return the mean of the tasks' root mean squared errors; infinite if one diverges."""
    values = torch.cat([rmse(predict(each), each.query.y, each.query.mask) for each in episodes])
    return values.mean().nan_to_num(nan=torch.inf).item()
