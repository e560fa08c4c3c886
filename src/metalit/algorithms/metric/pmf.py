"""P>M>F (Hu et al. 2022, https://arxiv.org/abs/2204.07305), section 3: pre-train, meta-train, fine-tune.

1  start from a network f that was pretrained elsewhere                                  (pretrained)
2  meta-train a prototypical network with logits tau cos(f(q), c_k) over f and tau       (NearestClassMean, Cosine)
3  at test time, with the support set (X, Y) of a task
4      repeat ``steps`` times:  X' = an augmentation of X;   c_k = class means of f(X)
5          theta <- theta - eta grad CE(tau cos(f(X'), c), Y),  by Adam
6  classify the queries by the class means of the fine-tuned f; eta is the best of a list on validation tasks

Line 5 fine-tunes f alone; tau stays as line 2 left it.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.func import grad
from torch.utils._pytree import tree_map

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.algorithms.metric.fine_tuning import FineTunedLearner
from metalit.episode import Episode, Labelled
from metalit.errors import UserError, at_least, check, not_negative
from metalit.functional.augmentation import NUMBERS, Augmentation, augment
from metalit.functional.losses import task_loss
from metalit.functional.masks import masked_mean
from metalit.heads import Cosine, NearestClassMean
from metalit.tasks.parameters import Params, select
from metalit.tasks.precision import at_least_float32, without_autocast
from metalit.tasks.task_context import uniform_like
from metalit.update_rules import Adam


@runtime_checkable
class HasEpisodes(Protocol):
    """A data module that gives episodes by their numbers."""

    def episodes(self, split: Any, first: int = 0, count: int = 1) -> Any:
        """Return episodes of a split."""
        ...


class PMF(FineTunedLearner, MetricMetaLearner):
    """A pretrained prototypical network that is fine-tuned at test time on augmented support images.

    Args:
        network: the embedding f, ``[n, channels, height, width]`` to ``[n, D]``; its initial weights are those it has,
            or those of ``pretrained``.
        scale: initial tau, > 0; learned in line 2.
        steps: steps of line 5, >= 0; with 0 it is a prototypical network with cosines.
        learning_rate: eta, >= 0; 0 leaves the network as it is. Not given: a test begins by choosing among ``rates``;
            validation and ``adapt`` do not fine-tune before that.
        rates: the values of eta to choose from.
        rate_episodes: number of validation episodes that decide, >= 1.
        adapted: shell-style patterns of the parameters that line 5 moves; ``*`` for all that are not frozen.
        augmentation: of line 4; default: shifts by up to an eighth of the height, brightness and contrast.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, or a pattern that matches nothing.

    The random numbers of line 4 are the same in every task: evaluation is deterministic, and ``adapt``, which knows no
    episode's number, must learn what a test of the same support set learns. Support image k of each task is therefore
    shifted alike at step t.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: float = 10.0,
        steps: int = 50,
        learning_rate: float | None = None,
        rates: Sequence[float] = (0.0, 1e-4, 1e-3, 1e-2),
        rate_episodes: int = 20,
        adapted: Sequence[str] = ("*",),
        augmentation: Augmentation | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(network, NearestClassMean(Cosine(scale, learn_scale=True)), **learner)
        self.steps = not_negative("steps", steps)
        self.rate = None if learning_rate is None else not_negative("learning_rate", learning_rate)
        check("rates", list(rates), len(rates) > 0 and min(rates) >= 0, "at least one number, none below 0")
        at_least(1, rate_episodes=rate_episodes)
        self.rates, self.rate_episodes = tuple(rates), rate_episodes
        self.adapted, self.augmentation = tuple(adapted), augmentation
        select(network, adapted)

    def setting(self) -> dict[str, Any]:
        """Add the fine-tuning to the reported settings."""
        return {**super().setting(), "steps": self.steps, "learning_rate": self.rate, "adapted": list(self.adapted)}

    def decide(self, data: object) -> dict[str, Any]:
        """Choose eta on validation episodes, unless it is given."""
        chosen = super().decide(data)
        if self.rate is not None:
            return chosen
        if not isinstance(data, HasEpisodes):
            raise UserError("PMF chooses its rate on a data module's validation episodes: give model.learning_rate")
        episodes = [data.episodes("val", index, 1) for index in range(self.rate_episodes)]
        self.rate = self.best_rate(episodes)
        return {**chosen, "learning_rate": self.rate}

    def best_rate(self, episodes: Sequence[Episode]) -> float:
        """Return the rate of ``rates`` with the highest accuracy on episodes, the smallest of equal ones."""
        before, accuracies = self.rate, {}
        for rate in sorted(self.rates):
            self.rate = rate
            right = [self._accuracy(episode) for episode in episodes]
            accuracies[rate] = sum(right) / len(right)
        self.rate = before
        text = ", ".join(f"{rate:g}: {accuracy:.4f}" for rate, accuracy in accuracies.items())
        rank_zero_info(f"P>M>F: accuracy on {len(episodes)} validation episodes by learning rate: {text}")
        return max(accuracies, key=lambda rate: accuracies[rate])

    def _accuracy(self, episode: Episode) -> float:
        episode = Episode(self._moved(episode.support), self._moved(episode.query), episode.index)
        found = self.evaluate(episode).predictions[:, -1].argmax(dim=-1)
        right, mask = (found == episode.query.y).float().flatten(), episode.query.mask
        return masked_mean(right, None if mask is None else mask.flatten()).item()

    def _moved(self, part: Labelled) -> Labelled:
        return tree_map(lambda leaf: leaf.to(self.device), part)  # type: ignore[no-any-return]

    def fine_tuned(self, meta: Params, support: Labelled, ways: int) -> Params:
        """Return ``meta`` with the network's parameters after lines 4 and 5.

        Raises:
            UserError: the inputs are not images.
        """
        if not self.rate or not self.steps:
            return meta
        if not (isinstance(support.x, Tensor) and support.x.dim() == 4):
            raise UserError("P>M>F fine-tunes on augmented images [n, channels, height, width]: set learning_rate to 0")
        adam = Adam(self.rate, beta1=0.9)

        def loss(parameters: Params, images: Tensor) -> Tensor:
            now = {**meta, **parameters}
            embedded, queries = self.embed(now, support.x), self.embed(now, images)
            scores = self.scores(now, support._replace(x=embedded), queries, ways)
            return task_loss(scores, support.y, support.mask)

        # in half precision small steps would be rounded away
        with without_autocast(support.y.device):
            parameters = {f"network.{name}": meta[f"network.{name}"] for name in select(self.network, self.adapted)}
            state = adam.init(parameters)
            for _ in range(self.steps):
                gradient = grad(loss)(parameters, self.augmented(support.x))
                parameters, state = adam(gradient, state, parameters, support.y)
        return {**meta, **parameters}

    def augmented(self, images: Tensor) -> Tensor:
        """Return an augmentation of the support images ``[S, C, H, W]``."""
        default = Augmentation(crop=images.shape[-2] // 8, brightness=0.4, contrast=0.4)
        # not in half precision, in which a number below 1 may round to 1, beyond the last window
        numbers = uniform_like(at_least_float32(images.new_empty(len(images), NUMBERS)))
        return augment(images, numbers, self.augmentation or default)
