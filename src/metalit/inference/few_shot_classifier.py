"""A trained learner as a scikit-learn estimator."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from metalit.algorithms.task_learner import TaskLearner
from metalit.data.images.picture_form import PictureForm
from metalit.errors import UserError
from metalit.inference.examples import ExampleForm, as_numpy, is_numeric, refuse_what_is_no_list
from metalit.inference.recogniser import Recogniser, TrainedModel
from metalit.inference.saved import load_recogniser, save_recogniser

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import Tags
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError("FewShotClassifier needs scikit-learn: pip install 'metalit[sklearn]'") from error


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Learns new classes from a few labelled examples by a trained learner: an estimator of scikit-learn.

    ``fit`` adapts a copy of the learner to the examples, as ``TaskLearner.adapt`` does; it is quick, and does not
    change the trained weights. Predictions equal those of ``trainer.test`` on the same support and query sets. For
    methods that are not transductive, the prediction for one example does not depend on the others. Strings are texts
    if the model was trained on texts, else paths.

    Args:
        run_or_learner: the folder of a run (its config says the size of the images, and so on), or a learner.
        which: the checkpoint of the run: ``best``, ``last``, or a path.
        form: how files, pictures and texts become examples: a ``PictureForm``, the size of colour images, or a
            ``TextForm``; needed for them if ``run_or_learner`` is a learner. If not given, the run's own.
        device: where to compute, such as ``cuda``; if not given, where the learner is.

    Attributes:
        classes_: ``[N]`` the labels in ascending order, integers or strings.
        recogniser_: what has been learned.
        n_features_in_: length of the second axis of ``X``, if it is an array of numbers.

    Raises:
        ImportError: scikit-learn is not installed.

    Example:
        >>> classifier = FewShotClassifier("runs/mine").fit(paths, ["oak", "oak", "elm", "elm"])  # doctest: +SKIP
        >>> classifier.predict(["new/1.jpg"])  # doctest: +SKIP
        array(['elm'], dtype='<U3')
        >>> classifier = FewShotClassifier("runs/intents").fit(["my card is gone", ...], ["lost_card", ...])
        ... # doctest: +SKIP
    """

    def __init__(
        self,
        run_or_learner: TaskLearner | str | Path,
        which: str | Path = "best",
        form: ExampleForm | int | None = None,
        device: str | None = None,
    ) -> None:
        # scikit-learn's rule: __init__ stores its arguments and does nothing else
        self.run_or_learner = run_or_learner
        self.which = which
        self.form = form
        self.device = device

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Learn the classes.

        Args:
            X: paths, Pillow's images, an array of images (``[n, H, W]``, ``[n, H, W, C]`` or ``[n, C, H, W]``; uint8,
                or floats in [0, 1]), feature vectors ``[n, D]``, or texts: a list, or an array ``[n]`` or ``[n, 1]``.
            y: ``[n]`` labels, integers or strings.

        Raises:
            UserError: the method cannot learn these classes, a file or the run cannot be read, or a text is empty.
        """
        model = self._model()
        refuse_what_is_no_list(X, model.form)
        if is_numeric(X):
            X, y = validate_data(self, as_numpy(X), y, allow_nd=True)  # noqa: N806
        else:
            check_consistent_length(X, y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.recogniser_ = Recogniser.learn(model, X, y)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class, ``[n, N]``, in the order of ``classes_``.

        Raises:
            UserError: the examples are not like those of ``fit``, or a file cannot be read.
        """
        check_is_fitted(self)
        refuse_what_is_no_list(X, self.recogniser_.model.form)
        if is_numeric(X):
            X = validate_data(self, as_numpy(X), reset=False, allow_nd=True)  # noqa: N806
        return self.recogniser_.probabilities(X)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the most probable label of each example, ``[n]``; see ``predict_proba``."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

    def save(self, folder: str | Path, model: dict[str, Any] | None = None) -> None:
        """Write the classifier into a folder: ``classifier.safetensors`` and ``classifier.json``, no pickle.

        Args:
            folder: made if it does not exist.
            model: the learner's settings, as under ``model`` in a config; needed if ``run_or_learner`` is a learner.

        Raises:
            UserError: the settings are needed and not given, or do not give this learner.
        """
        check_is_fitted(self)
        recogniser = self.recogniser_
        if model is not None:
            recogniser = recogniser.with_settings(model)
        save_recogniser(recogniser, folder)

    @classmethod
    def load(cls, folder: str | Path, trusted: bool = False) -> Self:
        """Return the classifier that ``save`` wrote; the training's data module and data are not needed.

        Args:
            folder: the folder.
            trusted: see ``load_recogniser``.

        Raises:
            FileNotFoundError: the folder holds no classifier.
            UserError: its files are damaged, or name what may not be used.
        """
        recogniser = load_recogniser(folder, trusted)
        classifier = cls(recogniser.model.learner, form=recogniser.model.form)
        # what ``fit`` needs beside the learner: the features of its images, and the settings to save it again
        classifier._loaded = recogniser.model
        classifier.recogniser_, classifier.classes_ = recogniser, np.asarray(recogniser.names)
        return classifier

    def _model(self) -> TrainedModel:
        given: Any = self.run_or_learner
        loaded: TrainedModel | None = getattr(self, "_loaded", None)
        if loaded is not None and given is loaded.learner:
            model = loaded
        elif isinstance(given, TaskLearner):
            model = TrainedModel(given)
        elif isinstance(given, str | Path):
            model = TrainedModel.of_run(given, self.which)
        else:
            found = type(given).__name__
            raise UserError(f"run_or_learner is a {found}, expected the folder of a run, or a learner")
        form = PictureForm(self.form) if isinstance(self.form, int) else self.form
        return (model if form is None else model._replace(form=form)).to(self.device)

    def __sklearn_clone__(self) -> Self:
        # a learner is never changed, so that copies may share it
        copy = type(self)(**self.get_params(deep=False))
        if hasattr(self, "_loaded"):
            copy._loaded = self._loaded
        return copy

    def __sklearn_tags__(self) -> "Tags":
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
