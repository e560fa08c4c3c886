"""What every gradient-based algorithm offers: checkpointed inner steps, other numbers of steps in evaluation."""

import pytest

from algorithms.test_battery import assert_same_gradient, double, learner, meta_gradient
from cases import CASES
from metalit import Engine
from metalit.algorithms import MAML, GradientBasedMetaLearner
from metalit.functional.parameters import matching
from metalit.networks import MLP

ROWS = [
    (name, domain)
    for name, case in CASES.items()
    for domain in case.learning
    if issubclass(case.algorithm, GradientBasedMetaLearner)
]
over_rows = pytest.mark.parametrize(("name", "domain"), ROWS)


@over_rows
@pytest.mark.parametrize("mapping", ["vmap", "loop"])
def test_checkpointing_changes_no_number(name, domain, mapping):
    episode, engine = double(domain), Engine(mapping)
    expected = meta_gradient(learner(name, domain, engine=engine), episode)
    found = meta_gradient(learner(name, domain, engine=engine, checkpoint_steps=True), episode)
    assert_same_gradient(found, expected)


@over_rows
def test_evaluation_may_take_other_steps_than_training(name, domain):
    algorithm, episode = learner(name, domain, eval_inner_steps=4).eval(), double(domain)
    outcome = algorithm.evaluate(episode)
    assert outcome.loss.shape == (4, 5)
    assert outcome.loss.isfinite().all()
    assert algorithm.setting()["inner_steps"] == 4


def test_checkpointing_keeps_dropout_and_running_statistics():
    def make(**settings):
        return learner("MAML", "glyphs", dropout=0.3, **settings)

    episode = double("glyphs")
    assert_same_gradient(meta_gradient(make(checkpoint_steps=True), episode), meta_gradient(make(), episode))


def test_checkpointing_and_compiling_exclude_one_another():
    with pytest.raises(ValueError, match=r"checkpoint_steps does not go with engine\.compile"):
        MAML(MLP(), checkpoint_steps=True, engine=Engine(compile=True))


def test_patterns_with_an_exclamation_mark_leave_out():
    names = ["body.0.weight", "body.0.bias", "head.weight"]
    assert matching(names, ["*", "!head.*"]) == names[:2]
    assert matching(names, ["!*.bias", "*"]) == [names[0], names[2]]
    with pytest.raises(ValueError, match="'!tail' matches none"):
        matching(names, ["*", "!tail"])
    with pytest.raises(ValueError, match="leave no parameter"):
        matching(names, ["head.*", "!head.*"])


def test_first_order_is_what_a_result_says():
    assert MAML(MLP()).setting()["first_order"] is False
    assert MAML(MLP(), first_order=True).setting()["first_order"] is True
    assert MAML(MLP(), eval_inner_steps=0).steps_in_evaluation() == 0
