"""Models of scikit-learn, fitted to the fingerprints of each support set, on the divisions of metalit's own tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from tqdm import tqdm

from metalit.data import FSMol
from metalit.evaluation.results import build_results, write_results
from metalit.metrics import Evaluation

Floats = npt.NDArray[np.float64]
Model = Callable[[Floats, Floats, Floats], Floats]
NEIGHBOURS = (4, 8, 16, 32, 64, 128)


def ridge(x: Floats, y: Floats, query: Floats) -> Floats:
    """Return scores of ridge regression on labels of -1 and 1."""
    return np.asarray(RidgeClassifier(alpha=1.0).fit(x, y).decision_function(query))


def knn(x: Floats, y: Floats, query: Floats) -> Floats:
    """Return shares of active neighbours, as many as five-fold cross-validation says: the authors' grid."""
    numbers = [number for number in NEIGHBOURS if number < len(y) / 2]
    # each fold must have both classes
    folds = min(5, int(y.sum()), int((1 - y).sum()))
    model: Any = KNeighborsClassifier(numbers[0] if numbers else 1)
    if len(numbers) > 1 and folds > 1:
        model = GridSearchCV(model, {"n_neighbors": numbers}, cv=folds)
    return np.asarray(model.fit(x, y).predict_proba(query)[:, 1])


def forest(x: Floats, y: Floats, query: Floats) -> Floats:
    """Return probabilities of a forest of the authors' grid; its search would take 180 fits for each division."""
    model = RandomForestClassifier(200, max_depth=20, max_features="sqrt", min_samples_leaf=2, random_state=0)
    return np.asarray(model.fit(x, y).predict_proba(query)[:, 1])


MODELS: dict[str, Model] = {"ridge": ridge, "knn": knn, "forest": forest}


def divisions(data: FSMol) -> Iterator[tuple[Floats, Floats, Floats, Floats]]:
    """Yield fingerprints and labels of support and query of each test episode, without padding."""
    for index in tqdm(range(data.test_episodes), unit="division", disable=None):
        episode, parts = data.episodes("test", index), []
        for part in (episode.support, episode.query):
            real = slice(None) if part.mask is None else part.mask[0]
            parts += [part.x[0][real].double().numpy(), part.y[0][real].double().numpy()]
        yield parts[0], parts[1], parts[2], parts[3]


def evaluate(name: str, data: FSMol, folder: Path) -> None:
    """Fit a model to every division and write the files of a test."""
    data.setup("test")
    # the average precision less the share of active molecules, which guessing would have
    found = [
        average_precision_score(labels, MODELS[name](x, y, query)) - labels.mean()
        for x, y, query, labels in divisions(data)
    ]
    values = torch.tensor(found, dtype=torch.float64).unsqueeze(1)
    evaluation = Evaluation(torch.arange(len(found)), {"delta_auprc": values})
    setting = {"algorithm": f"scikit-learn {name}", **data.setting()}
    folder.mkdir(parents=True, exist_ok=True)
    write_results(
        folder, build_results("test", evaluation, setting, None, {"scikit-learn": sklearn.__version__}), evaluation
    )
