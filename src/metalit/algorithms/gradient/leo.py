"""Latent embedding optimisation (Rusu et al. 2019, https://arxiv.org/abs/1807.05960), algorithm 1.

     1  initialise encoder, relation network, decoder and the rates alpha, eta
     2  while not done
     3      sample tasks, each with a support set D and a query set D'                           (data module)
     4      for each task
           embed D, D' as vectors of length 1                                                   (authors' data.py)
     5          encode D to mean, std of a code for each class;  draw codes z ~ N(mean, std^2)
     6          decode z to mean, std of each class's weights;   draw w ~ N(mean, std^2)
     7          repeat latent_steps times:      z <- z - alpha grad_z L(w; D), redraw w as in line 6
     8          repeat finetuning_steps times:  w <- w - eta grad_w L(w; D)
     9      minimise  L(w; D') + kl_weight KL(N(mean, std^2) || N(0, 1)) + encoder_penalty_weight |sg(z') - z|^2
                      + l2 and orthogonality of the weights of line 1                            (engine, Lightning)

z' are the codes after line 7, z those of line 5; sg stops the gradient. In evaluation the means replace all draws.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError, not_negative, positive
from metalit.functional.distances import class_means
from metalit.functional.losses import task_loss
from metalit.networks import Classifier, RelationEncoder
from metalit.networks.embedding_length import check_embeddings
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, detached, scope
from metalit.tasks.precision import full_precision
from metalit.tasks.pullback import gradient_and_value
from metalit.tasks.task_context import normal_like
from metalit.update_rules.per_parameter_sgd import PerParameterSGD


class LEO(GradientBasedMetaLearner):
    """Generates the head of a classifier from a latent code for each class, and adapts the codes.

    Differences from the paper: a standard deviation is the exponential of the network's output (times
    sqrt(2 / (N + features)) for the weights). There is one code per class; the authors' code draws one for each support
    example. KL and encoder penalty are means over classes and dimensions, as in that code. The support loss is a mean
    over the N K examples; theirs is a sum, shared by K copies of each code, so their learning rates of 1.0 and 0.001
    correspond to N times as much here. The defaults stay at 1.0 and 0.001: with embeddings of few features, larger
    steps lead to a loss that is not finite.

    Args:
        network: its ``body`` embeds the examples. Its head is not used: LEO generates the head of each task, with the
            same number of classes and without a bias.
        latents: length of a class's code, >= 1.
        latent_steps: inner steps on the codes, >= 0.
        finetuning_steps: subsequent inner steps on the weights, >= 0; ``eval_inner_steps`` counts both kinds.
        latent_lr: initial alpha, a learned learning rate for each dimension of a code; > 0. The authors' corresponds to
            N.
        finetuning_lr: initial eta, a learned learning rate for each dimension of the weights; > 0. The authors'
            corresponds to 0.001 N.
        normalize: divide each embedding by its length, as in the authors' data.py. Otherwise the codes, and the
            exponentials computed from them, grow with the embeddings until the loss is not finite.
        dropout: probability of dropping a feature in training, before encoder and head; in [0, 1).
        kl_weight: beta, >= 0.
        encoder_penalty_weight: gamma, weight of the squared distance by which the codes of a task move; >= 0.
        l2_weight: lambda_1, weight of half the squared weights of encoder, relation network and decoder; >= 0.
        orthogonality_weight: lambda_2, weight of the squared correlations between the decoder's directions; >= 0.
        train_body: train the body too; otherwise it is frozen as given, in evaluation mode.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a number outside its range, or tasks that are not classification.
    """

    def __init__(
        self,
        network: Classifier,
        latents: int = 64,
        latent_steps: int = 5,
        finetuning_steps: int = 5,
        latent_lr: float = 1.0,
        finetuning_lr: float = 0.001,
        normalize: bool = True,
        dropout: float = 0.3,
        kl_weight: float = 0.001,
        encoder_penalty_weight: float = 1e-9,
        l2_weight: float = 1e-8,
        orthogonality_weight: float = 0.001,
        train_body: bool = True,
        **learner: Any,
    ) -> None:
        features, ways = network.head.in_features, network.head.out_features
        encoder = RelationEncoder(features, latents, dropout)
        decoder = nn.Linear(latents, 2 * features, bias=False)
        for weight in (*encoder.parameters(), *decoder.parameters()):
            nn.init.xavier_uniform_(weight)
        # one rate for each dimension, shared by all classes
        rates = {
            "codes": torch.full((latents,), positive("latent_lr", latent_lr)),
            "weights": torch.full((features,), positive("finetuning_lr", finetuning_lr)),
        }
        super().__init__(
            nn.ModuleDict({"body": network.body, "encoder": encoder, "decoder": decoder}),
            update_rule=PerParameterSGD(rates),
            inner_steps=not_negative("latent_steps", latent_steps) + not_negative("finetuning_steps", finetuning_steps),
            adapted=("*",),
            **learner,
        )
        if not train_body:
            network.body.requires_grad_(False).eval()  # ``learner.train()`` would undo the latter
        self.adapted = ("weights",)  # the generated weights: no parameter of the network adapts
        self.ways, self.latent_steps, self.dropout = ways, latent_steps, dropout
        self.features = features
        self.normalize = normalize
        self.weights_scale = math.sqrt(2 / (ways + features))
        self.kl_weight = not_negative("kl_weight", kl_weight)
        self.encoder_penalty_weight = not_negative("encoder_penalty_weight", encoder_penalty_weight)
        self.l2_weight = not_negative("l2_weight", l2_weight)
        self.orthogonality_weight = not_negative("orthogonality_weight", orthogonality_weight)

    @property
    def adapted_names(self) -> list[str]:
        """Name of the generated weights; the codes are intermediate values."""
        return ["weights"]

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Refuse a task whose number of classes differs from that of the network."""
        if ways not in (0, self.ways):
            raise UserError(
                f"the support set has {ways} classes, but LEO's network {self.ways}: it learns tasks of as many "
                "classes as it was trained with (data.ways)"
            )

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return a task's codes, the weights decoded from them, and the distribution of the codes."""
        if support.y.is_floating_point():
            raise UserError("LEO generates a classifier: it does not do regression")
        features = self.embed(meta, support.x)
        encoder = self.network.get_submodule("encoder")
        related = functional_call(encoder, scope(meta, "network.encoder"), (features, support.mask))
        mean, log_std = class_means(related, support.y, self.ways, support.mask).chunk(2, dim=-1)
        codes = self.draw(mean, log_std.exp())  # line 5
        start = {"codes": codes, "weights": self.decode(meta, codes), "mean": mean, "log_std": log_std}
        # the embeddings do not change within a task, so they are computed once
        return start, (0, features)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return codes and weights after one more inner step: on the codes first, then on the weights."""
        step, features = state
        latent = step < self.latent_steps
        moving = {"codes": adapted["codes"]} if latent else {"weights": adapted["weights"]}

        def loss(moving: Params) -> Tensor:
            weights = self.decode(meta, moving["codes"]) if latent else moving["weights"]
            return task_loss(self.logits(features, weights), support.y, support.mask)

        gradient, value = gradient_and_value(loss, moving, higher=not self.first_order)
        if self.first_order:
            gradient, value = detached(gradient), value.detach()
        # the rule finds the rates by the name of what moves, ``codes`` or ``weights``
        moved, _ = self.update(meta, gradient, (), moving, value)  # line 7 or 8
        if latent:
            moved["weights"] = self.decode(meta, moved["codes"])
        return adapted | moved, (step + 1, features)

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return the logits of the generated head."""
        return self.logits(self.embed(meta, x), adapted["weights"])

    def penalties(self, meta: Params, support: Labelled, path: list[Params]) -> Params:
        """Return all terms of line 9 except the query loss."""
        start, end = path[0], path[self.latent_steps]
        # the adapted codes are constants here: the encoder learns to start near them
        moved = (end["codes"].detach() - start["codes"]).square().mean()
        generating = scope(meta, "network.encoder") | scope(meta, "network.decoder")
        squares = torch.stack([weight.square().sum() for weight in generating.values()]).sum()
        return {
            "kl": self.kl_weight * kl_to_standard_normal(start["mean"], start["log_std"]),
            "encoder_penalty": self.encoder_penalty_weight * moved,
            "l2": self.l2_weight * squares / 2,
            "orthogonality": self.orthogonality_weight * correlation(meta["network.decoder.weight"].T),
        }

    def embed(self, meta: Params, x: Any) -> Tensor:
        """Return the embeddings ``[n, features]``, of length 1 unless ``normalize`` is off."""
        features = functional_call(self.network.get_submodule("body"), scope(meta, "network.body"), (x,))
        check_embeddings(features, self.features, Classifier)
        return unit_length(features) if self.normalize else features

    def decode(self, meta: Params, codes: Tensor) -> Tensor:
        """Return weights ``[N, features]`` decoded from codes ``[N, latents]`` (line 6)."""
        decoded = functional_call(self.network.get_submodule("decoder"), scope(meta, "network.decoder"), (codes,))
        mean, log_std = decoded.chunk(2, dim=-1)
        return self.draw(mean, self.weights_scale * log_std.exp())

    def draw(self, mean: Tensor, std: Tensor) -> Tensor:
        """Return a sample of a normal distribution in training, its mean in evaluation."""
        return mean + std * normal_like(mean) if self.training else mean

    def logits(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return logits ``[n, N]``, with dropout on the features in training."""
        return F.dropout(features, self.dropout, self.training) @ weights.T


@full_precision
def unit_length(features: Tensor) -> Tensor:
    """Return vectors ``[n, D]`` divided by their lengths; a zero vector stays zero."""
    return F.normalize(features, dim=-1)


@full_precision
def kl_to_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return KL(N(mean, std^2) || N(0, 1)) in closed form, the mean over all dimensions, 0-d."""
    return ((2 * log_std).exp() + mean.square() - 1 - 2 * log_std).mean() / 2


@full_precision
def correlation(directions: Tensor) -> Tensor:
    """Return the mean squared difference between the cosine matrix of vectors ``[n, D]`` and the identity, 0-d."""
    directions = F.normalize(directions, dim=-1)
    cosines = directions @ directions.T
    return (cosines - torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)).square().mean()
