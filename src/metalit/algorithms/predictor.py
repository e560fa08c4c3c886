"""A task that has been learned: a function from inputs to predictions, a value of its own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from metalit.certified import uncertified
from metalit.episode import Labelled
from metalit.functional.examples import count, to_unit_interval

if TYPE_CHECKING:
    from metalit.algorithms.base import MetaLearner

T = TypeVar("T")
Learner = TypeVar("Learner", bound="MetaLearner")


class Predictor(Generic[Learner]):
    """Predicts for ONE task. It has its own copy of the weights, can be pickled, and never changes.

    It holds what learning the support set cost (adapted weights, class means, a fitted classifier), so a call costs
    little more than the network's own forward pass. It always runs in evaluation mode.

    Args:
        learner: a copy in evaluation mode, which belongs to the predictor alone; see ``MetaLearner.adapt``.
        support: as ``MetaLearner.adapt`` takes it.

    Attributes:
        classes: ``[N]``, the labels of the support set in ascending order: logit k is that of ``classes[k]``. None in
            regression.

    Raises:
        ValueError: a support set that does not fit together, or that the learner cannot learn.
    """

    def __init__(self, learner: Learner, support: Labelled) -> None:
        self.learner = learner
        trained, self._buffers = learner.meta()
        self.meta = trained | self._buffers
        support, self.classes = self._checked_support(support)
        self._like = tree_map(lambda leaf: leaf[:0], support.x)
        ways = 0 if self.classes is None else len(self.classes)
        with torch.no_grad(), learner.context(self._buffers):
            learner.check(self.meta, support, ways)
        with torch.no_grad(), learner.context(self._buffers) as task:
            self.state = learner.learn(self.meta, support, ways)
            self._draws = task.draws
        # known layers draw and write nothing in evaluation, and the context costs as much time as an image
        self._needs_context = uncertified(learner) is not None

    def __call__(self, x: Any) -> Tensor:
        """Return predictions for inputs ``[n, ...]``: logits ``[n, N]``, or values ``[n, outputs]``.

        Images in uint8 are scaled to [0, 1], as the data modules do.

        Raises:
            ValueError: inputs of another shape or dtype than those of the support set.
        """
        return self.apply(self.learner.predict, x)

    def labels(self, x: Any) -> Tensor:
        """Return the most likely label of each input, ``[n]``: one of ``classes``."""
        assert self.classes is not None, "there are no labels in regression"
        return self.classes[self(x).argmax(dim=-1)]

    @torch.no_grad()
    def apply(self, question: Callable[[dict[str, Tensor], Any, Any], T], x: Any) -> T:
        """Return what a method of ``learner`` answers: ``question(meta, state, x)``, e.g. ``learner.predict``."""
        x = self._checked_inputs(x)
        if not self._needs_context:
            return question(self.meta, self.state, x)
        with self.learner.context(self._buffers) as task:
            task.draws = (
                self._draws
            )  # random numbers go on as in an evaluation, which learns and predicts in one go
            return question(self.meta, self.state, x)

    def _checked_support(self, support: Labelled) -> tuple[Labelled, Tensor | None]:
        x, y = tree_map(lambda leaf: leaf.to(self.learner.device), (to_unit_interval(support.x), support.y))
        if count(x) != len(y) or not len(y):
            raise ValueError(
                f"the support set has {count(x)} inputs and {len(y)} labels: give one task without the axis B, as many "
                "inputs as labels, and at least one"
            )
        if y.is_floating_point():
            return Labelled(x, y), None
        if y.dim() != 1:
            raise ValueError(f"the class labels have shape {list(y.shape)}, but must be [{len(y)}]")
        classes, y = y.unique(return_inverse=True)
        return Labelled(x, y), classes

    def _checked_inputs(self, x: Any) -> Any:
        x = tree_map(lambda leaf: leaf.to(self.learner.device), to_unit_interval(x))
        (found, found_spec), (expected, expected_spec) = tree_flatten(x), tree_flatten(self._like)
        if found_spec != expected_spec:
            raise ValueError(
                f"the inputs are {found_spec}, but those of the support set were {expected_spec}"
            )
        for one, other in zip(found, expected, strict=True):
            if one.dim() == 0 or one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
                raise ValueError(
                    f"the inputs are {described(one)}, but those of the support set were {described(other)}"
                )
        if len({len(leaf) for leaf in tree_leaves(x)}) > 1:
            raise ValueError(
                f"the parts of the inputs have different lengths: {[len(leaf) for leaf in found]}"
            )
        return x


def described(x: Tensor) -> str:
    """Return an input's shape, without the number of examples, and its dtype."""
    shape = ", ".join(["n", *map(str, x.shape[1:])]) if x.dim() else ""
    return f"[{shape}] {str(x.dtype).removeprefix('torch.')}"
