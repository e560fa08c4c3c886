"""A learned task, as a function from inputs to predictions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from metalit.engine.certified import uncertified
from metalit.episode import Labelled, MarkedTokens, Tokens
from metalit.errors import UserError
from metalit.functional.examples import to_unit_interval
from metalit.functional.masks import real_examples

if TYPE_CHECKING:
    from metalit.algorithms.task_learner import TaskLearner

T = TypeVar("T")
Learner = TypeVar("Learner", bound="TaskLearner")


class Predictor(Generic[Learner]):
    """Predicts for ONE task. It owns a copy of the weights, can be pickled, and never changes.

    The support set is learned once and the result kept (adapted weights, class means, a fitted classifier), so a call
    costs little more than the network's forward pass. Predictions are always made in evaluation mode.

    Args:
        learner: a copy in evaluation mode, owned by the predictor; see ``MetaLearner.adapt``.
        support: the support set, as in ``MetaLearner.adapt``.

    Attributes:
        classes: ``[N]``, the labels of the support set in ascending order: logit k belongs to ``classes[k]``. None in
            regression.
        meta: all parameters and buffers of the learner, by name.
        state: what ``learner.learn`` made of the support set, a pytree of tensors.
        like: inputs as those of the support set, ``[0, ...]``.
        draws: how many random draws learning took; predicting goes on from there.

    Raises:
        UserError: inputs and labels do not fit together, or the learner cannot learn such a task.
    """

    def __init__(self, learner: Learner, support: Labelled) -> None:
        self._own(learner)
        support, self.classes = self._checked_support(support)
        # an empty batch records structure, shapes and dtypes of the inputs without keeping the support set
        self.like = tree_map(lambda leaf: leaf.new_empty(0, *leaf.shape[1:]), support.x)
        ways = 0 if self.classes is None else len(self.classes)
        try:
            with torch.no_grad(), learner.context(self._buffers):
                learner.check(self.meta, support, ways)
            # a new context: random draws of the check must not shift those of learning
            with torch.no_grad(), learner.context(self._buffers) as task:
                self.state = learner.learn(self.meta, support, ways)
                self.draws = task.draws
        except (
            RuntimeError,
            IndexError,
        ) as error:  # torch raises these for shapes and dtypes that do not fit the network
            raise UserError(
                f"{type(learner).__name__} cannot learn from inputs {described(support.x)} with labels "
                f"{described(support.y)}: {str(error).splitlines()[0]}"
            ) from error

    @classmethod
    def restored(cls, learner: Learner, state: Any, classes: Tensor | None, like: Any, draws: int) -> Self:
        """Return the predictor that another one was, from a learner with its weights and from its attributes.

        Args:
            learner: a copy in evaluation mode, owned by the predictor.
            state: the other predictor's ``state``, and so on.
            classes: ``[N]`` labels; None in regression.
            like: an empty batch of inputs.
            draws: the number of random draws that learning took.
        """
        predictor = cls.__new__(cls)
        predictor._own(learner)
        predictor.state, predictor.classes, predictor.like, predictor.draws = state, classes, like, draws
        return predictor

    def __call__(self, x: Any) -> Tensor:
        """Return predictions for inputs ``[n, ...]``: logits ``[n, N]``, or values ``[n, outputs]``.

        Images in uint8 are scaled to [0, 1], as in the data modules.

        Raises:
            UserError: shape or dtype of the inputs differ from those of the support set.
        """
        return self.apply(self.learner.predict, x)

    def labels(self, x: Any) -> Tensor:
        """Return the most likely label of each input, ``[n]``: one of ``classes``.

        Raises:
            UserError: the task is regression, or shape or dtype of the inputs differ from those of the support set.
        """
        if self.classes is None:
            raise UserError("regression has no labels: call the predictor for its values")
        return self.classes[self(x).argmax(dim=-1)]

    @torch.no_grad()
    def apply(self, question: Callable[[dict[str, Tensor], Any, Any], T], x: Any) -> T:
        """Return ``question(meta, state, x)``, where ``question`` is a method of ``learner`` such as ``predict``."""
        x = self._checked_inputs(x)
        if not self._needs_context:
            return question(self.meta, self.state, x)
        with self.learner.context(self._buffers) as task:
            # evaluation learns and predicts in one context: continue its count of draws, or the numbers would differ
            task.draws = self.draws
            return question(self.meta, self.state, x)

    def _own(self, learner: Learner) -> None:
        self.learner = learner
        trained, self._buffers = learner.meta()
        self.meta = trained | self._buffers
        # in evaluation known layers neither draw random numbers nor write buffers, so the context, which costs as much
        # time as one image, can be left out
        self._needs_context = uncertified(learner) is not None

    def _checked_support(self, support: Labelled) -> tuple[Labelled, Tensor | None]:
        x, y = (self._copy(part) for part in real_examples(support))
        x = to_unit_interval(x, self._precision)
        if not isinstance(y, Tensor):
            raise UserError(f"the labels are {described(y)}, but must be one tensor")
        lengths = {len(leaf) if leaf.dim() else 0 for leaf in [*tree_leaves(x), y]}
        if len(lengths) > 1 or not lengths or lengths == {0}:
            raise UserError(
                f"the support set has inputs {sizes(x)} and labels {sizes(y)}: give one task without the axis B, as "
                "many inputs as labels, and at least one"
            )
        self._check_precision(x)
        if y.is_floating_point():
            return Labelled(x, y), None
        if y.dim() != 1:
            raise UserError(f"the class labels have shape {list(y.shape)}, but must be [{len(y)}]")
        # any integers become 0..N-1, the labels that methods expect
        classes, y = torch.unique(y, return_inverse=True)
        return Labelled(x, y), classes

    def _copy(self, examples: Any) -> Any:
        """Return a copy of the examples on the learner's device."""
        for leaf in tree_leaves(examples):
            if not isinstance(leaf, Tensor):
                raise UserError(f"the examples hold a {type(leaf).__name__}, but must be tensors")
        # copied even on the same device: the caller may overwrite the examples, but a predictor never changes
        return tree_map(lambda leaf: leaf.detach().to(self.learner.device, copy=True), examples)

    @property
    def _precision(self) -> torch.dtype | None:
        """The dtype of the parameters; None without any, for then the inputs decide."""
        floats = (value.dtype for value in self.learner.parameters() if value.is_floating_point())
        return next(floats, None)

    def _check_precision(self, x: Any) -> None:
        precision = self._precision
        accepted = (torch.float32, torch.float64) if precision is None else (precision,)
        for leaf in tree_leaves(x):
            if leaf.is_floating_point() and leaf.dtype not in accepted:
                computed = " or ".join(str(dtype).removeprefix("torch.") for dtype in accepted)
                raise UserError(
                    f"the inputs are {described(x)}, but the network computes in {computed}: convert one of them"
                )

    def _checked_inputs(self, x: Any) -> Any:
        if isinstance(x, dict) and isinstance(self.like, dict) and x.keys() == self.like.keys():
            # a network may depend on the order of the entries: restore that of the support set
            x = {name: x[name] for name in self.like}
        x = to_unit_interval(self._copy(x), self._precision)
        expected, expected_spec = tree_flatten(self.like)
        found, found_spec = tree_flatten(x)
        # texts are padded to the longest among them, which may be another length at each call
        first = 2 if isinstance(self.like, Tokens | MarkedTokens) else 1
        alike = found_spec == expected_spec and all(
            one.dim() == other.dim() and one.shape[first:] == other.shape[first:] and one.dtype == other.dtype
            for one, other in zip(found, expected, strict=True)
        )
        if not alike:
            raise UserError(f"the inputs are {described(x)}, but those of the support set were {described(self.like)}")
        if len({len(leaf) for leaf in found}) > 1:
            raise UserError(f"the parts of the inputs have different lengths: {sizes(x)}")
        return x


def described(examples: Any) -> str:
    """Return shapes and dtypes of the examples as text, with n for their number."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return type(leaf).__name__
        shape = ", ".join(["n", *map(str, leaf.shape[1:])]) if leaf.dim() else ""
        return f"[{shape}] {str(leaf.dtype).removeprefix('torch.')}"

    return str(tree_map(one, examples)).replace("'", "")


def sizes(examples: Any) -> str:
    """Return the shapes of the examples as text."""
    return str(tree_map(lambda leaf: list(leaf.shape), examples))
