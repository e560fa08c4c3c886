"""Per-episode values over batches and over ranks."""

import copy
import csv
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metalit
from metalit.metrics import EpisodeValues, Evaluation

RANKS = Path(__file__).with_name("ranks.py")
CASES = runpy.run_path(str(RANKS))["CASES"]
true_values = runpy.run_path(str(RANKS))["true_values"]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two processes computed together, and the folder they wrote to."""
    folder = tmp_path_factory.mktemp("ranks")
    source = str(Path(metalit.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(RANKS), str(folder)], env=environment, check=True, timeout=120)
    with torch.serialization.safe_globals([Evaluation]):
        return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)], folder


@pytest.mark.service
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_agree_on_the_exact_values(two_ranks, case, rank):
    evaluation, after_reset = two_ranks[0][rank][case]
    expected = sorted({index for batches in CASES[case] for batch in batches for index in batch})
    assert evaluation.indices.tolist() == expected
    values = true_values(torch.tensor(expected)) if expected else {}
    assert evaluation.values.keys() == values.keys()
    for name, value in values.items():
        assert torch.equal(evaluation.values[name], value.double())
    assert after_reset.indices.tolist() == [0, 1]
    assert torch.equal(after_reset.values["loss"], torch.ones(2, 1, dtype=torch.float64))


@pytest.mark.service
def test_predictions_of_all_ranks_are_in_one_file(two_ranks):
    with (two_ranks[1] / "run" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["episode"], row["target"], row["prediction"]) for row in rows] == [(c, c, c) for c in "0123"]


def evaluate(*batches: list[int]) -> EpisodeValues:
    metric = EpisodeValues()
    for batch in batches:
        metric.update(torch.tensor(batch), true_values(torch.tensor(batch)))
    return metric


def test_batches_of_any_size_and_order_give_the_same():
    one, several = evaluate([0, 1, 2, 3, 4]).compute(), evaluate([3], [4, 0], [2, 1]).compute()
    assert torch.equal(one.indices, several.indices)
    for name in one.values:
        assert torch.equal(one.values[name], several.values[name])
        assert one.values[name].dtype == torch.float64


def test_a_repeated_episode_counts_once():
    evaluation = evaluate([0, 1], [1, 0]).compute()
    assert evaluation.indices.tolist() == [0, 1]
    assert torch.equal(evaluation.values["loss"], true_values(torch.arange(2))["loss"].double())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric))])
def test_a_single_value_keeps_its_axes(clone):
    metric = clone(EpisodeValues())
    metric.update(torch.tensor([7]), {"loss": torch.tensor([[0.5]])})
    evaluation = metric.compute()
    assert evaluation.indices.shape == (1,)
    assert evaluation.values["loss"].shape == (1, 1)


def test_update_keeps_no_graph():
    metric = EpisodeValues()
    metric.update(torch.tensor([0]), {"loss": torch.ones(1, 1, requires_grad=True) * 2})
    assert not metric.compute().values["loss"].requires_grad


def test_names_must_stay_the_same():
    metric = evaluate([0])
    with pytest.raises(AssertionError, match="loss"):
        metric.update(torch.tensor([1]), {"loss": torch.ones(1, 3)})


def test_it_adds_nothing_to_a_checkpoint():
    assert evaluate([0]).state_dict() == {}
