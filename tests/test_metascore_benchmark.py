"""The baselines and the table of benchmarks.metascore."""

import numpy as np
import pytest
import torch
from benchmarks.metascore.__main__ import of_adapted, of_zero_shot
from benchmarks.metascore.baselines import RidgePerTask, mean_of_support, pooled_features
from benchmarks.metascore.scores import episodes_of, scores
from benchmarks.metascore.zero_shot import weighted_pearson, zero_shot

from metalit.algorithms import MAML
from metalit.data import MetaScore
from metalit.loading import LoadedRun
from metalit.networks import AffinityHead, ProteinLigandNetwork


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    table = tmp_path_factory.mktemp("metascore") / "complexes.csv"
    module = MetaScore(str(table), synthetic="tiny", shots=5, train_queries=5)
    module.episodes("train")
    return module


@pytest.fixture(scope="module")
def learner(data):
    torch.manual_seed(0)
    network = ProteinLigandNetwork(AffinityHead(6, 6), width=6, layers=1, **data.sizes())
    return MAML(network, inner_lr=0.05, inner_steps=1).eval()


def test_ridge_of_a_task_is_scikit_learns(data):
    linear_model = pytest.importorskip("sklearn.linear_model")
    ridge, (episode,) = RidgePerTask(data, 3.0), episodes_of(data, "test", 1)
    found = ridge(episode)
    for task in range(len(found)):
        support = (pooled_features(episode.support.x)[task] - ridge.mean) / ridge.std.clamp(min=1e-6)
        query = (pooled_features(episode.query.x)[task] - ridge.mean) / ridge.std.clamp(min=1e-6)
        model = linear_model.Ridge(3.0).fit(support.double().numpy(), episode.support.y[task].double().numpy())
        expected = model.predict(query.double().numpy())
        there = episode.query.mask[task].numpy()
        assert np.allclose(found[task].numpy().ravel()[there], expected.ravel()[there], atol=1e-3)


def test_a_constant_prediction_has_an_error_but_no_correlation(data):
    found = scores(mean_of_support, episodes_of(data, "test", 2))
    assert found["Pearson"].isnan().all()
    assert found["RMSE"].isfinite().all()


def test_weighted_correlation_is_that_of_repeated_complexes():
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    counts = np.array([0, 1, 2, 0, 1, 3, 1, 1, 0])
    expected = np.corrcoef(np.repeat(a, counts), np.repeat(b, counts))[0, 1]
    found = weighted_pearson(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(counts)[None].double())
    assert found.item() == pytest.approx(expected)


def test_zero_shot_uses_no_affinity_of_a_cluster(data, learner):
    apart = MetaScore(str(data.file), test_clusters="zero_shot")
    found = zero_shot(learner.network, apart, resamples=50)
    store = apart.load("test")
    (complexes,) = store.parts(torch.arange(len(store.targets)))
    with torch.no_grad():
        predictions = learner.network(complexes)[:, 0].double().numpy()
    targets = store.targets[:, 0].numpy()
    assert found.together == pytest.approx(np.corrcoef(predictions, targets)[0, 1], abs=1e-5)
    first = slice(0, int(store.task_sizes[0]))
    expected = np.sqrt(np.mean((predictions - targets)[first] ** 2))
    assert found.by_cluster["RMSE"][0].item() == pytest.approx(expected, abs=1e-5)
    assert found.by_cluster["Pearson"].isnan().sum() == (store.task_sizes == 1).sum()


@pytest.mark.slow
def test_the_table_has_a_row_for_every_method(data, learner):
    runs = {name: LoadedRun(learner, data) for name in ("pooled", "maml")}
    table = of_adapted(runs, data, draws=1)
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    assert names == [
        "mean of the support",
        "ridge on each task",
        "network on each task, from scratch",
        "pooled network",
        "pooled network, fine-tuned",
        "MAML, before adaptation",
        "MAML",
    ]
    assert "Zero-shot: 8 clusters" in of_zero_shot(runs, data)
