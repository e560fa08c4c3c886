"""MetaGAN with relation networks (Zhang, Che, Ghahramani, Bengio and Song 2018, https://papers.nips.cc/paper/7504).

    1  sample a task: a support set D and a query set D'                                         (data module)
    2  draw fakes x ~ G(D)
    3  for each example of D' and each fake:  logits l_k, the relation to class k                (LearnedRelation)
    4  p(k | x) = exp(l_k) / (1 + sum over j of exp(l_j)),   p(N + 1 | x) = 1 - sum over k of p(k | x)
    5  the classifier minimises  the relation network's loss over D'  - w mean log p(y <= N | x) over D'
                                 - w mean log p(N + 1 | x) over the fakes
    6  the generator minimises   - mean log p(y <= N | x) over the fakes

Lines 5 and 6 are taken simultaneously, from the parameters before the step.
"""

from functools import partial

from torch import Tensor

from metalit.algorithms.generative.base import GenerativeMetaLearner
from metalit.algorithms.metric.relation_network import RelationNetwork
from metalit.episode import Labelled
from metalit.functional.real_or_fake import real_loss
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params, detached


class MetaGANRelationNetwork(GenerativeMetaLearner, RelationNetwork):
    """A relation network that also learns to tell real examples from generated ones.

    Additional metrics: ``train/discriminator_loss`` (line 5), of which ``train/fake_loss`` is the part on fakes,
    ``train/generator_loss``, and the gradient norm of each player. ``train/loss`` is the sum of both losses.

    Differences from the paper: there are no unlabelled examples. The classes are learned by the squared error, so
    ``game_weight``, w, has to be small.

    Args:
        **learner: the settings of ``GenerativeMetaLearner``, ``RelationNetwork`` and ``MetaLearner``.
    """

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the first two terms of line 5, those on real queries."""
        return super().loss(meta, support, query, scores) + self.game_weight * real_loss(scores)

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Return the outcome of a relation network, with the third term of line 5 and line 6 as penalties."""
        outcome = super().task(meta, support, query, ways, measure)
        # fakes are embedded with the support set but apart from the real queries, so batch norm does not mix the two
        logits = partial(self.predict_jointly, meta, support, ways=ways)
        constant_logits = partial(self.predict_jointly, detached(meta), support, ways=ways)
        penalties = self.play(self.generate(meta, support), logits, constant_logits)  # line 2
        return outcome._replace(penalties=outcome.penalties | penalties)
