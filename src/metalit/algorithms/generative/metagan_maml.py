"""MetaGAN with MAML (Zhang, Che, Ghahramani, Bengio and Song 2018, https://papers.nips.cc/paper/7504).

    1  initialise theta, the classifier, and the generator G
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                   (data module)
    4      for each T_b
    5          theta_b = theta;  draw fakes x ~ G(D_b)
    6          repeat inner_steps times:  theta_b <- theta_b - alpha grad L_D(theta_b; D_b, fakes)
                   with L_D = - mean of log p(y | x, y <= N) + w log p(y <= N | x) over the real examples
                              - mean of w log p(N + 1 | x) over the fakes
    7          draw new fakes x' ~ G(D_b)
    8      theta <- theta - beta grad_theta sum_b L_D(theta_b; D'_b, x')                        (engine, Lightning)
    9      G <- G - beta_G grad_G sum_b  - mean log p(y <= N | x') at theta_b

Lines 8 and 9 are taken simultaneously, from the parameters before the step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from metalit.algorithms.generative.base import GenerativeMetaLearner
from metalit.algorithms.gradient.maml import MAML
from metalit.episode import Labelled
from metalit.functional.real_or_fake import fake_loss, label_loss
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params, detached


class MetaGANMAML(GenerativeMetaLearner, MAML):
    """MAML whose classifier also learns to tell real examples from generated ones.

    Additional metrics: ``train/discriminator_loss`` (L_D), of which ``train/fake_loss`` is the part on fakes,
    ``train/generator_loss``, and the gradient norm of each player. ``train/loss`` is the sum of both losses.
    The network has N outputs; the logit of the fake class is fixed at 0.

    Differences from the paper: there are no unlabelled examples. The generator is trained only by the fakes of line 7,
    and the adapted classifier is a constant to it.

    Args:
        **learner: the settings of ``GenerativeMetaLearner``, ``MAML``, ``GradientBasedMetaLearner`` and
            ``MetaLearner``.
    """

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return theta, and the state of the update rule with the fakes of line 5."""
        adapted, state = super().start(meta, support)
        # detached: the generator is not trained through the inner steps
        return adapted, (self.generate(meta, support).detach(), state)  # line 5

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step on support set and fakes."""
        fakes, state = state

        def discriminator_loss(adapted: Params, support: Labelled) -> Tensor:
            fake = fake_loss(self.outputs(meta, adapted, fakes))
            return self.loss(meta, adapted, support) + self.game_weight * fake

        gradient, loss = self.inner_gradient(meta, support, adapted, discriminator_loss)
        adapted, state = self.update(meta, gradient, state, adapted, loss)  # line 6
        return adapted, (fakes, state)

    def loss(self, meta: Params, adapted: Params, examples: Labelled) -> Tensor:
        """Return the part of L_D on real examples."""
        return label_loss(self.outputs(meta, adapted, examples.x), examples.y, self.game_weight)

    def judge(self, meta: Params, adapted: Params, query: Labelled) -> Outcome:
        """Return the part of L_D on real examples, and the N logits, on the query set."""
        predictions = self.outputs(meta, adapted, query.x)
        return Outcome(label_loss(predictions, query.y, self.game_weight), predictions)

    def penalties(self, meta: Params, support: Labelled, path: list[Params]) -> Params:
        """Return the part of L_D on fakes (line 8) and the generator's loss (line 9)."""
        # new fakes, not those adapted to in line 6
        logits: Callable[[Tensor], Tensor] = partial(self.outputs, meta, path[-1])
        constant_logits = partial(self.outputs, detached(meta), detached(path[-1]))
        return self.play(self.generate(meta, support), logits, constant_logits)  # line 7
