"""The base of methods in which a generator of examples plays against the classifier."""

from abc import ABC
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from metalit.algorithms.base import MetaLearner
from metalit.algorithms.generative.joint_optimizer import JointOptimizer
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
    """Mixed into a method of N logits: a set-conditioned generator, its part of the game, and its optimiser.

    Both players move at once: each has its gradient at the parameters before the step, so a training step is one pass
    over the tasks, and Lightning's automatic optimisation holds with clipping, accumulation and loss scaling.

    Args:
        network: the classifier's network, the discriminator.
        generator: from a set ``[S, ...]`` and a count to as many examples ``[count, ...]``; an ``ImageGenerator`` for
            images of 28 pixels if not given.
        fakes: examples that are generated for a task at a time; >= 1, and >= 2 where a batch norm of the generator
            takes the statistics of the batch.
        game_weight: of telling real from generated in the discriminator's loss, beside telling the classes apart; > 0.
        generator_optimizer: makes the generator's optimiser; ``optimizer`` is the discriminator's. A schedule acts on
            both.
        **learner: the settings of the method it is mixed into.

    Raises:
        ValueError: no fakes, or a weight that is not positive.
    """

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
        """Return new fakes ``[fakes, ...]`` of one task."""
        generator = scope(meta, "generator")
        return functional_call(self.generator, generator, (support.x, self.fakes))  # type: ignore[no-any-return]

    def play(
        self, fakes: Tensor, logits: Callable[[Tensor], Tensor], constant_logits: Callable[[Tensor], Tensor]
    ) -> Params:
        """Return what each player adds to the meta-loss of a task, 0-d.

        Args:
            fakes: generated.
            logits: the discriminator's, ``[n, N]`` for inputs ``[n, ...]``.
            constant_logits: the same numbers, but nothing in them is learned.
        """
        return {
            "fake_loss": self.game_weight * fake_loss(logits(fakes.detach())),
            "generator_loss": real_loss(constant_logits(fakes)),
        }

    @torch.no_grad()
    def generated_examples(self, support: Labelled) -> Tensor:
        """Return the fakes of each task, ``[B, fakes, ...]``, for support sets ``[B, S, ...]``."""
        meta = self.tensors()
        made = []
        for x, y in zip(*support, strict=True):
            with self.context():
                made.append(self.generate(meta, Labelled(x, y)))
        return torch.stack(made)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of each player's gradient, before it is clipped."""
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
        """Clip each player's gradient by itself: together, the larger would say how far the other moves."""
        assert isinstance(optimizer, JointOptimizer)
        for player in optimizer.optimizers:
            self.clip_gradients(player, gradient_clip_val, gradient_clip_algorithm)

    def players(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return what each of the two trains, by name."""
        players: dict[str, dict[str, nn.Parameter]] = {"discriminator": {}, "generator": {}}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                players["generator" if name.startswith("generator.") else "discriminator"][name] = parameter
        return players

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimisers of both players as one, and its schedule."""
        discriminator, generator = (list(parameters.values()) for parameters in self.players().values())

        def both(_: Any) -> JointOptimizer:
            return JointOptimizer(
                make_optimizer(self.optimizer, discriminator, "optimizer"),
                make_optimizer(self.generator_optimizer, generator, "generator_optimizer"),
            )

        return checked_optimizers([*discriminator, *generator], both, self.lr_scheduler, self.lr_scheduler_interval)

    def _log_training(self, loss: Tensor, outcome: Outcome, episode: Episode) -> None:
        """Log the discriminator's whole loss too, on real and on generated queries."""
        discriminator = outcome.loss + outcome.penalties["fake_loss"]
        measured = outcome.measured | {"discriminator_loss": discriminator}
        super()._log_training(loss, outcome._replace(measured=measured), episode)
