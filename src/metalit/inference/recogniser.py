"""The classes of one user, learned from labelled examples by a trained learner."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.algorithms.predictor import Predictor
from metalit.algorithms.task_learner import TaskLearner
from metalit.data import ClassificationDataModule, EpisodicDataModule
from metalit.data.features import FrozenFeatures
from metalit.episode import Labelled
from metalit.errors import SettingError, UserError
from metalit.functional.batches import by_batches
from metalit.inference.examples import ExampleForm, Progress, as_examples
from metalit.inference.threshold import Threshold
from metalit.loading import load, make_parts, resolved_parts
from metalit.networks.texts.base import check_form

Probabilities = npt.NDArray[np.float64]
BATCH = 64  # examples in one pass; affects memory and speed only


class TrainedModel(NamedTuple):
    """What a training leaves: all that learning new classes takes.

    Attributes:
        learner: the trained learner.
        form: how a user's own picture or text becomes an example; None if it is not known.
        settings: ``model`` and ``features`` as a config has them; None if the learner was given as an object.
        data: the data module of the training; None if there is none.
        features: the frozen network that embeds examples before the learner sees them; None if there is none.
    """

    learner: TaskLearner
    form: ExampleForm | None = None
    settings: dict[str, Any] | None = None
    data: EpisodicDataModule | None = None
    features: FrozenFeatures | None = None

    @classmethod
    def of_run(cls, run_dir: str | Path, which: str | Path = "best") -> "TrainedModel":
        """Load the model of a run; see ``metalit.load`` for arguments and errors."""
        learner, data = load(run_dir, which)
        form, features = None, None
        if isinstance(data, ClassificationDataModule):
            form, features = data.example_form(), data.features
        return cls(learner, form, resolved_parts(run_dir), data, features)

    def to(self, device: str | None) -> "TrainedModel":
        """Return the model with a copy of its learner on another device; None changes nothing.

        Raises:
            SettingError: there is no such device.
        """
        if device is None:
            return self
        try:
            if torch.device(device) == self.learner.device:
                return self
            return self._replace(learner=self.learner.evaluation_copy().to(device))
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's, for what it was not built for
            reason = str(error).splitlines()[0]
            raise SettingError("device", device, f"cpu, or another that this torch has ({reason})") from error

    def decided(self) -> "TrainedModel":
        """Let the learner decide what a test decides before its first episode; needs ``data``.

        Returns:
            The model with what was chosen among its settings.
        """
        chosen = {} if self.data is None else self.learner.decide(self.data)
        if not chosen or self.settings is None:
            return self
        model = self.settings["model"]
        model = {**model, "init_args": {**model.get("init_args", {}), **chosen}}
        return self._replace(settings={**self.settings, "model": model})

    def seen(self, examples: Any) -> Any:
        """Return examples as the learner sees them: with ``features``, images and texts are embedded."""
        # vectors [n, D] are embeddings already
        if self.features is None or (isinstance(examples, Tensor) and examples.dim() != 4):
            return examples
        moved = tree_map(lambda leaf: leaf.to(self.learner.device), examples)
        return self.features.embed(moved).to(precision(self.learner))


@dataclass(frozen=True)
class Recogniser:
    """Learned classes with their names.

    Attributes:
        model: the trained model.
        predictor: what the learner made of the labelled examples.
        names: the name of each class, in the order of the probabilities.
        threshold: the confidence below which an example is none of the classes, with the temperature of the
            probabilities; None if it is not calibrated.
    """

    model: TrainedModel
    predictor: Predictor[TaskLearner]
    names: Sequence[Any]
    threshold: Threshold | None = None

    @classmethod
    def learn(cls, model: TrainedModel, x: Any, labels: Sequence[Any], progress: Progress = iter) -> "Recogniser":
        """Learn classes from labelled examples.

        Args:
            model: the trained model; its weights are not changed. With its ``data``, the learner decides before what a
                test decides, such as P>M>F's rate.
            x: the examples; see ``as_examples``.
            labels: the class name of each example.
            progress: wraps the loop over pictures.

        Raises:
            UserError: the method cannot learn these classes, e.g. as their number is fixed; or see ``as_examples``.
            SettingError: the texts are not of the network's own tokenizer.
        """
        names, y = np.unique(np.asarray(labels), return_inverse=True)
        for network in (model.learner, *([] if model.features is None else [model.features.network])):
            check_form(network, model.form)
        examples = as_examples(x, model.form, precision(model.learner), progress)
        model = model.decided()
        predictor = model.learner.adapt(Labelled(model.seen(examples), torch.from_numpy(y)))
        return cls(model, predictor, names.tolist())

    @property
    def transductive(self) -> bool:
        """Whether the prediction for an example depends on the others that are predicted with it."""
        return bool(self.predictor.learner.setting()["transductive"])

    def probabilities(self, x: Any, progress: Progress = iter) -> Probabilities:
        """Return the probability of each class, ``[n, N]``; rows sum to 1. Arguments are those of ``logits``."""
        return self.probabilities_of(self.logits(x, progress))

    def logits(self, x: Any, progress: Progress = iter) -> Tensor:
        """Return the logit of each class, ``[n, N]`` float64.

        Args:
            x: the examples; see ``as_examples``. If the method is transductive, all are predicted together.
            progress: wraps the loop over pictures.
        """
        examples = as_examples(x, self.model.form, precision(self.predictor.learner), progress)
        return self.of_batch(examples) if self.transductive else by_batches(self.of_batch, examples, BATCH)

    def of_batch(self, examples: Any) -> Tensor:
        """Return the logits ``[n, N]`` float64 of examples in the form of the data module, computed together."""
        return self.predictor(self.model.seen(examples)).double().cpu()

    def probabilities_of(self, logits: Tensor) -> Probabilities:
        """Return probabilities ``[n, N]``, given logits."""
        probabilities: Probabilities = (logits / self.decision.temperature).softmax(-1).numpy()
        return probabilities

    @property
    def decision(self) -> Threshold:
        """The threshold; without one, that which every example reaches."""
        return Threshold(0.0) if self.threshold is None else self.threshold

    def with_threshold(self, threshold: Threshold | None) -> "Recogniser":
        """Return a recogniser that differs in its threshold."""
        return replace(self, threshold=threshold)

    def with_settings(self, settings: dict[str, Any]) -> "Recogniser":
        """Return a recogniser that knows the settings of its learner.

        Raises:
            UserError: the settings are those of another learner.
        """
        parts = {"features": None, **(self.model.settings or {}), "model": settings}
        made, _ = make_parts(parts, Path("model"))
        try:
            made.load_state_dict(self.predictor.learner.state_dict())
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise UserError(f"model is not the settings of this learner: {first}") from error
        return replace(self, model=self.model._replace(settings=parts))


def precision(learner: TaskLearner) -> torch.dtype:
    """Return the dtype in which a learner computes."""
    floats = (value.dtype for value in learner.tensors().values() if value.is_floating_point())
    return next(floats, torch.get_default_dtype())
