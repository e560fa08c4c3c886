"""Examples and what was recognised in them, as the rows of a table and in a sentence."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from metalit.inference.given import Given
from metalit.inference.recogniser import Probabilities, Recogniser

NONE = "none of these"


class Recognised(NamedTuple):
    """Examples and what was recognised in them.

    Attributes:
        given: the examples.
        logits: ``[n, N]``.
        recogniser: what recognised them.
    """

    given: Given
    logits: Tensor
    recogniser: Recogniser

    @property
    def probabilities(self) -> Probabilities:
        """The probability of each class, ``[n, N]``."""
        return self.recogniser.probabilities_of(self.logits)

    @property
    def confidence(self) -> list[float]:
        """What the threshold is compared with."""
        confidence: list[float] = self.recogniser.decision.confidence(self.logits).tolist()
        return confidence

    @property
    def best(self) -> list[str]:
        """The most probable class of each example."""
        return [str(self.recogniser.names[number]) for number in self.probabilities.argmax(axis=1)]

    @property
    def known(self) -> list[bool]:
        """Whether each example is taken for one of the classes."""
        return [confidence >= self.recogniser.decision.value for confidence in self.confidence]

    def rows(self, column: str) -> Iterable[Sequence[Any]]:
        """Yield the header and one row per example, with the probability of each class.

        Args:
            column: the heading of the names.
        """
        yield [
            column,
            "prediction",
            "known",
            "confidence",
            "most_likely",
            *(f"P({name})" for name in self.recogniser.names),
        ]
        columns = self.given.names, self.best, self.known, self.confidence, self.probabilities
        for name, best, known, confidence, row in zip(*columns, strict=True):
            prediction, whether = (best, "yes") if known else (NONE, "no")
            yield [name, prediction, whether, f"{confidence:.6g}", best, *(f"{each:.6f}" for each in row)]

    def judged(self, noun: str) -> list[str]:
        """Return how often the predictions are right, a line each; nothing if the examples have no labels.

        Args:
            noun: what the examples are called, in the plural.
        """
        names = {str(name) for name in self.recogniser.names}
        rows = list(zip(self.given.labels, self.best, self.known, strict=True)) if self.given.labels else []
        ours = [(label == best, known) for label, best, known in rows if label in names]
        strangers = [known for label, _, known in rows if label and label not in names]
        lines = []
        if ours:
            right, kept = sum(right for right, _ in ours), sum(right and known for right, known in ours)
            lines.append(
                f"Accuracy {right / len(ours):.3f}: the most likely class is right for {right} of {len(ours)} {noun} "
                f"with a label of these classes, and {kept} of them are taken for known"
            )
        if strangers:
            unknown = strangers.count(False)
            lines.append(f"Taken for {NONE}: {unknown} of {len(strangers)} {noun} with other labels")
        return lines
