"""Regressors without meta-learning, on the same test tasks and divisions: pooled, and of each task alone."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

Array = npt.NDArray[np.float64]
Task = tuple[Array, Array, Array, Array]  # support x and y, query x and y, standardised
Method = Callable[[Array, Array, Array], Array]  # from support x and y and query x to predictions of the query
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of ridge penalties, of which validation tasks choose


def error(method: Method, tasks: Iterable[Task]) -> float:
    """Return the mean over tasks of the root mean squared error."""
    return float(np.mean([np.sqrt(np.mean((method(x, y, at) - truth) ** 2)) for x, y, at, truth in tasks]))


def baselines(x: Array, y: Array, validation: Sequence[Task]) -> dict[str, Method]:
    """Return the methods by name.

    Args:
        x: ``[n, D]`` all rows of the training tasks.
        y: ``[n]`` their targets.
        validation: the validation tasks, on which strengths are chosen.
    """
    pooled_ridges = [Ridge(alpha=alpha).fit(x, y) for alpha in STRENGTHS]
    ridge = min((pooled(model.predict) for model in pooled_ridges), key=lambda each: error(each, validation))
    boosted = [
        HistGradientBoostingRegressor(max_iter=300, learning_rate=rate, random_state=0).fit(x, y)
        for rate in (0.03, 0.1)
    ]
    boosting = min((pooled(model.predict) for model in boosted), key=lambda each: error(each, validation))
    own = min((ridge_of_task(alpha) for alpha in STRENGTHS), key=lambda each: error(each, validation))
    residual = min((shifted(boosting, shrink) for shrink in (0.0, 1.0, 3.0)), key=lambda each: error(each, validation))
    return {
        "mean of the support": mean_of_support,
        "ridge, pooled": ridge,
        "ridge, per task": own,
        "gradient boosting, pooled": boosting,
        "gradient boosting, pooled, with the support's mean residual": residual,
    }


def pooled(predict: Callable[[Array], Array]) -> Method:
    """Return a method that ignores the support."""
    return lambda *task: predict(task[2])


def mean_of_support(_: Array, values: Array, at: Array) -> Array:
    """Return the mean target of the support for each row."""
    return np.full(len(at), values.mean())


def ridge_of_task(alpha: float) -> Method:
    """Return ridge regression on the support alone."""
    return lambda support, values, at: Ridge(alpha=alpha).fit(support, values).predict(at)


def shifted(method: Method, shrink: float) -> Method:
    """Return a method whose predictions are shifted by the mean of what it misses on the support, shrunk towards 0."""

    def predict(support: Array, values: Array, at: Array) -> Array:
        missed = (values - method(support, values, support)).sum() / (len(values) + shrink)
        shifted: Array = method(support, values, at) + missed
        return shifted

    return predict
