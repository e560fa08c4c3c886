"""The probability below which an example is taken for none of the learned classes.

The rule: over validation episodes of the training's data, of as many classes and shots as the user has, the highest
probability of a query whose class is among the learned ones exceeds the threshold in 95 % of the cases. On the same
episodes, queries of other validation classes say how many strangers the threshold finds.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.algorithms.task_learner import TaskLearner
from metalit.data import ClassificationDataModule
from metalit.data.stream import ClassificationStream
from metalit.episode import Labelled
from metalit.errors import UserError

KEPT = 0.95  # share of validation queries of the learned classes that the threshold keeps
EPISODES, QUERIES = 100, 5
Confidences = npt.NDArray[np.float64]


class Threshold(NamedTuple):
    """A threshold on the highest probability, and what is known of it.

    Attributes:
        value: examples whose highest probability is below it are none of the classes.
        kept: share of validation queries of the learned classes that it keeps; None if the user chose it.
        found: share of validation queries of other classes that it finds; None if there are no other classes.
        ways: classes of a validation episode.
        shots: support examples per class of a validation episode.
        episodes: number of validation episodes.
    """

    value: float
    kept: float | None = None
    found: float | None = None
    ways: int = 0
    shots: int = 0
    episodes: int = 0

    @property
    def caution(self) -> list[str]:
        """A sentence for who relies on a threshold that finds fewer than half of the strangers, or nothing."""
        if self.found is None or self.found >= 0.5:
            return []
        return ["By this threshold, most photos of other classes are taken for one of these: do not rely on it"]

    def __str__(self) -> str:
        """Return what is known of the threshold, in one sentence."""
        if self.kept is None:
            return f"probability below {shown(self.value)}, as given"
        found = (
            "there are no other classes to test it on" if self.found is None else f"finds {self.found:.1%} of others"
        )
        return (
            f"probability below {shown(self.value)}, which keeps {self.kept:.1%} of the queries of known classes and "
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
) -> Threshold:
    """Calibrate the threshold on validation episodes like the user's task.

    Args:
        learner: the trained learner.
        data: its data module.
        ways: number of the user's classes; if there are fewer validation classes, those are used.
        shots: the user's examples per class; fewer if the validation classes have not enough.
        progress: wraps the loop over episodes.

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
    known, others = list[Confidences](), list[Confidences]()
    for number in progress(range(EPISODES)):
        episode = data.finish(stream(number, 1), "val")
        support, query = (Labelled(part.x[0], part.y[0]) for part in (episode.support, episode.query))
        learned = support.y < ways
        predict = learner.adapt(Labelled(support.x[learned], support.y[learned]))
        # of a transductive method, the strangers take part in the batch, as the user's would
        confidence = predict(query.x).double().softmax(-1).amax(-1).cpu()
        known.append(confidence[query.y.cpu() < ways].numpy())
        others.append(confidence[query.y.cpu() >= ways].numpy())
    return threshold_of(np.concatenate(known), np.concatenate(others))._replace(
        ways=ways, shots=shots, episodes=EPISODES
    )


def threshold_of(known: Confidences, others: Confidences) -> Threshold:
    """Return the threshold that keeps 95 % of the known examples.

    Args:
        known: highest probabilities of examples of the learned classes.
        others: those of examples of other classes.
    """
    # a value that occurs, so that at least 95 % are at or above it
    value = float(np.quantile(known, 1 - KEPT, method="lower"))
    found = float((others < value).mean()) if len(others) else None
    return Threshold(value, float((known >= value).mean()), found)


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
            f"the threshold for 'none of these' needs the validation data of the training, which cannot be read "
            f"({error}): bring them back, or choose a threshold yourself by --threshold"
        ) from error
    sizes = data.stores["val"].class_sizes
    if int(sizes.min()) <= QUERIES:
        raise UserError(
            f"a validation class has {int(sizes.min())} examples, too few to calibrate the threshold on "
            f"{QUERIES} queries per class: choose one yourself by --threshold"
        )
    return sizes
