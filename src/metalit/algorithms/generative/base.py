"""The base class of methods that train a generator of examples against the classifier."""

from abc import ABC
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from metalit.algorithms.generative.joint_optimizer import JointOptimizer
from metalit.algorithms.meta_learner import MetaLearner
from metalit.algorithms.optimizers import checked_optimizers, make_optimizer
from metalit.episode import Episode, Labelled
from metalit.errors import at_least, positive
from metalit.functional.real_or_fake import fake_loss, real_loss
from metalit.functional.vectors import norm
from metalit.networks import ImageGenerator
from metalit.outcome import Outcome
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope


class GenerativeMetaLearner(MetaLearner, ABC):
    """A mixin for methods with N logits: adds a set-conditioned generator, its adversarial losses and its optimiser.

    Both players move simultaneously: each takes its gradient at the parameters before the step. A training step is
    therefore one pass over the tasks, and Lightning's automatic optimisation, with clipping, accumulation and loss
    scaling, works unchanged.

    Args:
        network: the network of the classifier, which is the discriminator.
        generator: maps a set ``[S, ...]`` and a count to generated examples ``[count, ...]``; default: an
            ``ImageGenerator`` for images of 28 pixels.
        fakes: number of examples generated for a task at a time; >= 1, and >= 2 if a batch norm of the generator uses
            batch statistics.
        game_weight: weight of telling real from generated examples in the discriminator's loss, relative to telling
            the classes apart; > 0.
        generator_optimizer: builds the generator's optimiser; ``optimizer`` builds the discriminator's. A learning-rate
            schedule acts on both.
        **learner: the settings of the method that is extended.

    Raises:
        SettingError: no fakes, or a weight that is not positive.
    """

    honours_masks = False  # the generator makes examples of all places

    def __init__(
        self,
        network: nn.Module,
        generator: nn.Module | None = None,
        fakes: int = 5,
        game_weight: float = 1.0,
        generator_optimizer: OptimizerCallable = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999)),  # noqa: B008
        **learner: Any,
    ) -> None:
        super().__init__(network, **learner)
        at_least(1, fakes=fakes)
        self.generator = ImageGenerator() if generator is None else generator
        self.fakes, self.generator_optimizer = fakes, generator_optimizer
        self.game_weight = positive("game_weight", game_weight)

    def generate(self, meta: Params, support: Labelled) -> Tensor:
        """Generate new fakes ``[fakes, ...]`` for one task."""
        generator = scope(meta, "generator")
        return functional_call(self.generator, generator, (support.x, self.fakes))  # type: ignore[no-any-return]

    def play(
        self, fakes: Tensor, logits: Callable[[Tensor], Tensor], constant_logits: Callable[[Tensor], Tensor]
    ) -> Params:
        """Return the terms that each player adds to the meta-loss of a task, 0-d.

        Args:
            fakes: the generated examples.
            logits: the discriminator, from inputs ``[n, ...]`` to logits ``[n, N]``.
            constant_logits: the same function with the discriminator's parameters detached.
        """
        return {
            # one meta-loss holds both players' terms, so each term is cut off from the other player's parameters
            "fake_loss": self.game_weight * fake_loss(logits(fakes.detach())),
            "generator_loss": real_loss(constant_logits(fakes)),
        }

    @torch.no_grad()
    def generated_examples(self, support: Labelled) -> Tensor:
        """Return the generated examples of each task, ``[B, fakes, ...]``, for support sets ``[B, S, ...]``."""
        meta = self.tensors()
        made = []
        for x, y in zip(*support, strict=True):
            with self.context():
                made.append(self.generate(meta, Labelled(x, y)))
        return torch.stack(made)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of each player's gradient before clipping."""
        super().on_before_optimizer_step(optimizer)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of its connectors
        if every and (self.global_step + 1) % every == 0:
            for player, parameters in self.players().items():
                gradients = {name: value.grad for name, value in parameters.items() if value.grad is not None}
                self.log(f"train/{player}_gradient_norm", norm(gradients))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each player's gradient separately: a joint norm would let the larger gradient shrink the other."""
        # the generator's gradient is often ten times as long (docs/algorithms/metagan_maml.md)
        assert isinstance(optimizer, JointOptimizer)
        for player in optimizer.optimizers:
            self.clip_gradients(player, gradient_clip_val, gradient_clip_algorithm)

    def players(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the trained parameters of each player, by name."""
        players: dict[str, dict[str, nn.Parameter]] = {"discriminator": {}, "generator": {}}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                players["generator" if name.startswith("generator.") else "discriminator"][name] = parameter
        return players

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return both optimisers as one joint optimiser, with its schedule."""
        discriminator, generator = (list(parameters.values()) for parameters in self.players().values())

        # Lightning's automatic optimisation allows one optimiser only
        def both(_: Any) -> JointOptimizer:
            return JointOptimizer(
                make_optimizer(self.optimizer, discriminator, "optimizer"),
                make_optimizer(self.generator_optimizer, generator, "generator_optimizer"),
            )

        return checked_optimizers([*discriminator, *generator], both, self.lr_scheduler, self.lr_scheduler_interval)

    def _log_training(self, loss: Tensor, outcome: Outcome, episode: Episode) -> None:
        """Also log the discriminator's full loss, on real and generated queries."""
        discriminator = outcome.loss + outcome.penalties["fake_loss"]
        measured = outcome.measured | {"discriminator_loss": discriminator}
        super()._log_training(loss, outcome._replace(measured=measured), episode)
