"""Probabilities that mean what they say, and the confidence below which an example is none of the learned classes.

Both are calibrated on validation episodes of the training's data, of as many classes and shots as the user has. Logits
are divided by the one temperature that makes the labels of queries of the learned classes most likely (Guo et al. 2017,
https://arxiv.org/abs/1706.04599): distances between embeddings may be so large that every probability is 0 or 1, or so
small that all are equal. The confidence in an example is its highest probability or its largest logit, which for
prototypes says how near the nearest one is. The threshold is the highest that keeps 95 % of these queries. Queries of
other validation classes say how many strangers it finds, and which of the two confidences finds more.
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.algorithms.task_learner import TaskLearner
from metalit.data import ClassificationDataModule
from metalit.data.stream import ClassificationStream
from metalit.errors import UserError

KEPT = 0.95  # share of validation queries of the learned classes that the threshold keeps
EPISODES, QUERIES = 100, 5
Score = Literal["probability", "logit"]


class Threshold(NamedTuple):
    """A threshold on the confidence in an example, and what is known of it.

    Attributes:
        value: examples with a lower confidence are none of the classes.
        kept: share of validation queries of the learned classes that it keeps; None if nothing was calibrated.
        found: share of validation queries of other classes that it finds; None if there are no other classes.
        ways: classes of a validation episode.
        shots: support examples per class of a validation episode.
        episodes: number of validation episodes.
        temperature: what logits are divided by before they become probabilities.
        score: whether the confidence is the highest probability or the largest logit.
        chosen: whether the user chose the value.
    """

    value: float
    kept: float | None = None
    found: float | None = None
    ways: int = 0
    shots: int = 0
    episodes: int = 0
    temperature: float = 1.0
    score: Score = "probability"
    chosen: bool = False

    def confidence(self, logits: Tensor) -> Tensor:
        """Return the confidence in each example, ``[n]``, given logits ``[n, N]``."""
        return logits.amax(-1) if self.score == "logit" else (logits / self.temperature).softmax(-1).amax(-1)

    def caution(self, noun: str = "photos") -> list[str]:
        """Return a sentence for who relies on a threshold that finds fewer than half of the strangers, or nothing.

        Args:
            noun: what the examples are called, in the plural.
        """
        if self.found is None or self.found >= 0.5:
            return []
        return [f"By this threshold, most {noun} of other classes are taken for one of these: do not rely on it"]

    def __str__(self) -> str:
        """Return what is known of the threshold, in one sentence."""
        below = (
            f"largest logit below {self.value:.4g}"
            if self.score == "logit"
            else f"probability below {shown(self.value)}"
        )
        below += ", as given" if self.chosen or self.kept is None else ""
        if self.kept is None:
            return below
        found = (
            "there are no other classes to test it on" if self.found is None else f"finds {self.found:.1%} of others"
        )
        return (
            f"{below}, which keeps {self.kept:.1%} of the queries of known classes and "
            f"{found} ({self.episodes} validation episodes, {self.ways} ways, {self.shots} shots)"
        )


def shown(probability: float) -> str:
    """Return a probability with three decimals, or its distance from 1 if it would look like 1 and is not."""
    return f"1 - {1 - probability:.1g}" if 0.9995 <= probability < 1 else f"{probability:.3f}"


def calibrated(
    learner: TaskLearner,
    data: ClassificationDataModule,
    ways: int,
    shots: int,
    progress: Callable[[range], Iterable[int]] = iter,
    value: float | None = None,
    episodes: int | None = None,
) -> Threshold:
    """Calibrate temperature and threshold on validation episodes like the user's task.

    Args:
        learner: the trained learner.
        data: its data module.
        ways: number of the user's classes; if there are fewer validation classes, those are used.
        shots: the user's examples per class; fewer if the validation classes have not enough.
        progress: wraps the loop over episodes.
        value: a threshold on the probability that the user chose; the temperature is calibrated all the same, and what
            the threshold keeps and finds is measured.
        episodes: number of validation episodes, >= 1; ``EPISODES`` if not given.

    Raises:
        UserError: the validation data cannot be read, or are too few.
    """
    sizes = validation_sizes(data)
    # half of an episode's classes are learned, the others are strangers
    ways = min(ways, len(sizes))
    strangers = min(ways, len(sizes) - ways)
    shots = max(1, min(shots, int(sizes.min()) - QUERIES))
    stream = ClassificationStream(
        sizes, split="val", seed=data.seed, ways=ways + strangers, shots=shots, queries=QUERIES
    )
    episodes = EPISODES if episodes is None else episodes
    known, others, labels = validation_logits(learner, data, stream, ways, progress(range(episodes)))
    temperature = best_temperature(known, labels)
    settings = Threshold(0.0, ways=ways, shots=shots, episodes=episodes, temperature=temperature)
    if value is not None:
        return measured(known, others, settings._replace(value=value, chosen=True))
    candidates = [threshold_of(known, others, settings._replace(score=score)) for score in get_args(Score)]
    return max(candidates, key=lambda each: each.found or 0.0)  # of equal ones the first, the probability


def validation_logits(
    learner: TaskLearner,
    data: ClassificationDataModule,
    stream: ClassificationStream,
    ways: int,
    numbers: Iterable[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits ``[n, ways]`` of queries of learned classes, those of other classes, and labels ``[n]``."""
    known, others, labels = list[Tensor](), list[Tensor](), list[Tensor]()
    for number in numbers:
        episode = data.finish(stream(number, 1), "val")
        support, query = (tree_map(lambda leaf: leaf[0], part) for part in (episode.support, episode.query))
        learned, is_known = support.y < ways, (query.y < ways).cpu()
        predict = learner.adapt(tree_map(lambda leaf, learned=learned: leaf[learned], support))
        # of a transductive method, the strangers take part in the batch, as the user's would
        logits = predict(query.x).double().cpu()
        known.append(logits[is_known])
        others.append(logits[~is_known])
        labels.append(query.y.cpu()[is_known])
    return torch.cat(known), torch.cat(others), torch.cat(labels)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature at which the labels are most likely, between 1e-6 and 1e6.

    Args:
        logits: ``[n, N]``.
        labels: ``[n]`` in 0..N-1.
    """

    def cost(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels).item()

    # the loss is convex in the inverse of the temperature, so there is one minimum
    found = minimize_scalar(cost, bounds=(math.log(1e-6), math.log(1e6)), method="bounded")
    return math.exp(float(found.x))


def threshold_of(known: Tensor, others: Tensor, settings: Threshold) -> Threshold:
    """Return the threshold that keeps 95 % of the known examples.

    Args:
        known: logits ``[n, N]`` of examples of the learned classes.
        others: those of examples of other classes.
        settings: all but its value.
    """
    # a value that occurs, so that at least 95 % are at or above it
    value = float(np.quantile(settings.confidence(known).numpy(), 1 - KEPT, method="lower"))
    return measured(known, others, settings._replace(value=value))


def measured(known: Tensor, others: Tensor, threshold: Threshold) -> Threshold:
    """Return a threshold with the shares of examples that it keeps and finds; see ``threshold_of``."""
    ours, theirs = (threshold.confidence(logits).numpy() for logits in (known, others))
    found = float((theirs < threshold.value).mean()) if len(theirs) else None
    return threshold._replace(kept=float((ours >= threshold.value).mean()), found=found)


def validation_sizes(data: ClassificationDataModule) -> npt.NDArray[np.int64]:
    """Return the number of examples of each validation class, after loading them.

    Raises:
        UserError: the data cannot be read.
    """
    try:
        if "val" not in data.streams:
            data.prepare_data()
            data.streams["val"] = data.checked_stream("val")
    except (OSError, ValueError) as error:
        raise UserError(
            f"temperature and threshold need the validation data of the training, which cannot be read ({error})"
        ) from error
    sizes = data.stores["val"].class_sizes
    if int(sizes.min()) <= QUERIES:
        raise UserError(
            f"a validation class has {int(sizes.min())} examples, too few to calibrate temperature and threshold on "
            f"{QUERIES} queries per class"
        )
    return sizes
