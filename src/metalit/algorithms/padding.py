"""Tasks of unequal size come padded; a learner that would not leave the padding out refuses them, here alone."""

from typing import Protocol

from metalit.episode import Episode
from metalit.errors import UserError


class Learner(Protocol):
    """What a learner says about padding.

    Attributes:
        honours_masks: whether the places without an example change nothing.
    """

    honours_masks: bool

    def batch_statistics(self) -> list[str]:
        """Return the names of layers that take statistics over all places."""
        ...


def refuse_padding(learner: Learner, episode: Episode) -> None:
    """Raise an error if an episode is padded, and the padding would change what a learner computes.

    Raises:
        UserError: the method does not honour masks, or a batch norm would count padding among the examples.
    """
    if episode.support.mask is None and episode.query.mask is None:
        return
    name = type(learner).__name__
    if not learner.honours_masks:
        raise UserError(
            f"{name} with these settings does not learn tasks of unequal size: their episodes are padded, and it would "
            "take the padding for examples. Use MAML or, for classes, PrototypicalNetwork, or make all tasks equally "
            "large"
        )
    norms = learner.batch_statistics()
    if norms:
        raise UserError(
            f"the tasks differ in size, so their episodes are padded, and the batch norm {norms[0]} of {name} would "
            "take the padding for examples: use a network without batch norm, or with group or layer norm; pretrained "
            'running statistics can be frozen (model.frozen_batch_norm: ["*"])'
        )
