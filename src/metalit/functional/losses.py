"""The loss of a task's predictions."""

import torch.nn.functional as F
from torch import Tensor

from metalit.errors import UserError
from metalit.functional.masks import masked_mean, without_padding
from metalit.tasks.precision import full_precision


@full_precision
def task_loss(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean loss over a task's examples: cross-entropy for class labels, squared error for floats.

    Args:
        predictions: ``[n, N]`` logits, or ``[n, outputs]`` values.
        targets: ``[n]`` int64 class labels, or ``[n, outputs]`` floats.
        mask: ``[n]`` bool, True where there is an example, at least once; None if there is one at every place. What
            is predicted at other places, even NaN, has no effect.

    Returns:
        0-d loss, in nats (classification) or squared units of ``targets`` (regression).

    Raises:
        UserError: regression targets and predictions differ in shape.
    """
    # the targets' dtype alone decides between regression and classification
    regression = targets.is_floating_point()
    if regression:
        check_targets(predictions, targets)
    if mask is None:
        return F.mse_loss(predictions, targets) if regression else F.cross_entropy(predictions, targets)
    return masked_mean(losses_of_examples(without_padding(predictions, mask), targets), mask)


def losses_of_examples(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each example, ``[n]``, whose mean is ``task_loss``."""
    if targets.is_floating_point():
        return (predictions - targets).square().flatten(1).mean(dim=1)
    return F.cross_entropy(predictions, targets, reduction="none")


def check_targets(predictions: Tensor, targets: Tensor) -> None:
    """Raise an error if regression targets and predictions differ in shape.

    Raises:
        UserError: the shapes differ.
    """
    # torch would broadcast [n] against [n, 1] to [n, n] and average over all pairs
    if predictions.shape != targets.shape:
        raise UserError(
            f"the targets have shape {list(targets.shape)}, but the predictions {list(predictions.shape)}: give both "
            "as [examples, outputs], with an axis of length 1 for a single number"
        )
