"""Every row of the table on torch's ``meta`` device, which has shapes and no values.

Training that asks for a value (``item``, ``nonzero``, a comparison in Python) fails here, and so does a tensor that is
made on the CPU and meets the inputs: on a GPU the one would wait for the device, and the other would stop the run.
"""

import pytest
from torch.utils._pytree import tree_leaves, tree_map

import metalit.objectives
from cases import CASES

ROWS = [(name, domain) for name, case in CASES.items() for domain in case.learning]
over_rows = pytest.mark.parametrize(("name", "domain"), ROWS, ids=[f"{n}-{d}" for n, d in ROWS])


def on_meta(name, domain, split, **settings):
    """Return a learner and a meta-batch without values; N is a number that the learner is told beforehand."""
    case = CASES[name]
    learner, episode = case.make(domain, **settings), case.data(domain).episodes(split, 0, 4)
    ways = learner.ways_of(episode.support)
    learner.ways_of = lambda support: ways
    return learner.to("meta"), tree_map(lambda leaf: leaf.to("meta"), episode)


@over_rows
@pytest.mark.sample(3)
def test_training_step_reads_no_value_and_stays_on_the_device(name, domain):
    learner, episode = on_meta(name, domain, "train")
    before = {key: value.shape for key, value in learner.state_dict().items()}
    loss = learner.train().meta_loss(episode)
    loss.backward()
    assert loss.is_meta
    for key, parameter in learner.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.is_meta, key
    assert before == {key: value.shape for key, value in learner.state_dict().items()}


@pytest.mark.parametrize(
    "objective",
    [
        name
        for name in metalit.objectives.__all__
        # the likelihood of distances needs complexes
        if name not in ("DistanceLikelihood", "LearnedTask", "Measure", "Objective", "measure_nothing")
    ],
)
def test_objectives_read_no_value_and_stay_on_the_device(objective):
    domain = "glyphs" if objective == "MaxMinEntropy" else "sinusoid"  # an entropy needs classes
    objective = getattr(metalit.objectives, objective)()
    learner, episode = on_meta("MAML", domain, "train", objective=objective)
    loss = learner.train().meta_loss(episode)
    loss.backward()
    assert loss.is_meta
    assert all(parameter.grad.is_meta for parameter in learner.parameters())


@over_rows
@pytest.mark.sample(3)
def test_evaluation_reads_no_value_and_stays_on_the_device(name, domain):
    learner, episode = on_meta(name, domain, "test")
    outcome = learner.eval().evaluate(episode)
    assert all(leaf.is_meta for leaf in tree_leaves(outcome))
    assert outcome.predictions.shape[:1] + outcome.predictions.shape[2:3] == episode.query.y.shape[:2]
