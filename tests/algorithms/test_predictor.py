"""``adapt``: one task learned, as a value that predicts as the test does, whatever happens to the learner."""

import pickle
import subprocess
import sys
import time

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from cases import CASES, DOMAINS
from metalit import MAML, Episode, Labelled
from metalit.algorithms import (
    ANIL,
    LEO,
    MANN,
    PTMAP,
    R2D2,
    TIM,
    BayesianMAML,
    MatchingNetwork,
    MetaBaseline,
    PrototypicalNetwork,
    SimpleShot,
    TipAdapter,
)
from metalit.networks import MLP, Classifier, Conv4, Pixels

CLASSIFICATION = [name for name, case in CASES.items() if "glyphs" in case.learning]


def quiet(**settings):
    return L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, inference_mode=False, use_distributed_sampler=False, **settings,
    )  # fmt: skip


def one(episode, task=0):
    return tree_map(lambda leaf: leaf[task], (episode.support, episode.query))


def in_double(episode):
    return tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, episode)


class Dropping(nn.Module):
    """A network with dropout, which evaluation must not feel."""

    def __init__(self, network):
        super().__init__()
        self.network, self.features = network, getattr(network, "features", None)

    def forward(self, x):
        return nn.functional.dropout(self.network(x), 0.5, self.training)


class Predictions(L.Callback):
    """Notes the predictions that ``trainer.test`` makes of each episode."""

    def __init__(self):
        self.of_batch = []

    def on_test_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        self.of_batch.append((batch, outputs["predictions"]))


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.service
@pytest.mark.sample(5)
def test_right_after_fit_it_predicts_as_the_test_does(name, tmp_path):
    torch.manual_seed(0)
    learner, data = CASES[name].make("glyphs").double(), CASES[name].data("glyphs")
    # some methods amplify float32's rounding
    transferred = data.on_after_batch_transfer
    data.on_after_batch_transfer = lambda episode, loader: in_double(transferred(episode, loader))
    trainer = quiet(max_steps=1, limit_val_batches=0, default_root_dir=tmp_path)
    trainer.fit(learner, data)
    assert learner.training
    fitted = [(learner.adapt(support), query) for support, query in map(one, [in_double(data.episodes("test", 0))])]
    assert learner.training  # its flags are as they were
    noted = Predictions()
    quiet(callbacks=[noted], default_root_dir=tmp_path).test(learner, data, verbose=False)
    (predictor, query), expected = fitted[0], noted.of_batch[0][1][0]
    torch.testing.assert_close(predictor(query.x), expected, rtol=1e-6, atol=1e-8)


def test_dropout_is_off_right_after_fit(tmp_path):
    torch.manual_seed(0)
    learner = MAML(Classifier(Dropping(Conv4(8, downsample="stride")), ways=3), inner_lr=0.1)
    data = DOMAINS["glyphs"].data()
    quiet(max_steps=2, limit_val_batches=0, default_root_dir=tmp_path).fit(learner, data)
    support, query = one(data.episodes("test"))
    trained = learner.adapt(support)(query.x)
    torch.testing.assert_close(trained, learner.eval().adapt(support)(query.x), rtol=0, atol=0)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_one_query_alone_is_as_among_others_unless_the_setting_says_transductive(name):
    torch.manual_seed(0)
    learner = CASES[name].make("glyphs").double()
    episode = tree_map(
        lambda leaf: leaf.double() if leaf.is_floating_point() else leaf,
        CASES[name].data("glyphs").episodes("test"),
    )
    support, query = one(episode)
    predictor = learner.adapt(support)
    alone, among = predictor(query.x[:1]), predictor(query.x)[:1]
    same = torch.allclose(alone, among, rtol=0, atol=1e-10)
    assert same != learner.setting()["transductive"]


@pytest.mark.parametrize("make", [PrototypicalNetwork, MetaBaseline, MatchingNetwork, R2D2])
def test_metric_methods_have_running_statistics_unless_told_otherwise(make):
    assert make(Conv4(8)).setting() | {"algorithm": ""} == {
        "algorithm": "", "batch_norm": "running", "transductive": False,
    }  # fmt: skip
    told = make(Conv4(8, batch_norm="batch")).setting()
    assert (told["batch_norm"], told["transductive"]) == ("batch", True)


def test_gradient_based_methods_have_those_of_the_batch():
    setting = MAML(Classifier(Conv4(8), ways=3)).setting()
    assert (setting["batch_norm"], setting["transductive"]) == ("batch", True)


LABELS = {
    "counted_from_1": (torch.tensor([1, 2, 3]), torch.int64),
    "with_gaps": (torch.tensor([0, 2, 7]), torch.int64),
    "negative": (torch.tensor([-5, 0, 40]), torch.int32),
    "uint8": (torch.tensor([3, 200, 250]), torch.uint8),
    "int16": (torch.tensor([0, 1, 2]), torch.int16),
}


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("values", ["with_gaps", "uint8"])
@pytest.mark.sample(3)
def test_labels_of_any_values_are_classes(values, name):
    assert_labels_are_mapped(name, *LABELS[values])


@pytest.mark.parametrize("values", LABELS)
@pytest.mark.parametrize("name", ["PrototypicalNetwork", "SimpleShot", "MetaBaseline", "MAML"])
def test_labels_of_every_kind(values, name):
    assert_labels_are_mapped(name, *LABELS[values])


def assert_labels_are_mapped(name, values, dtype):
    torch.manual_seed(0)
    learner = CASES[name].make("glyphs")
    support, query = one(CASES[name].data("glyphs").episodes("test"))
    expected = learner.adapt(support)(query.x)
    predictor = learner.adapt(Labelled(support.x, values.to(dtype)[support.y]))
    assert torch.equal(predictor(query.x), expected)
    assert predictor.classes.tolist() == values.tolist()
    assert predictor.labels(query.x).tolist() == values[expected.argmax(-1)].tolist()
    assert expected.isfinite().all()


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_it_does_not_change_when_the_learner_does(name):
    torch.manual_seed(0)
    learner = CASES[name].make("glyphs")
    support, query = one(CASES[name].data("glyphs").episodes("test"))
    predictor = learner.adapt(support)
    before = predictor(query.x)
    with torch.no_grad():
        for value in [*learner.parameters(), *learner.buffers()]:
            value.fill_(0)
    support.x.fill_(0)
    assert torch.equal(predictor(query.x), before)
    assert torch.equal(predictor(query.x), before)


IN_A_FRESH_PROCESS = """
import pickle, sys, torch
with open(sys.argv[1], "rb") as file:
    predictor, x = pickle.load(file)
torch.save(predictor(x), sys.argv[2])
"""


def pickled_and_used(predictor, x, folder):
    (folder / "predictor.pkl").write_bytes(pickle.dumps((predictor, x)))
    command = [
        sys.executable,
        "-c",
        IN_A_FRESH_PROCESS,
        str(folder / "predictor.pkl"),
        str(folder / "found.pt"),
    ]
    subprocess.run(command, check=True)
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_pickled_it_is_the_same(name):
    torch.manual_seed(0)
    learner = CASES[name].make("glyphs")
    support, query = one(CASES[name].data("glyphs").episodes("test"))
    predictor = learner.adapt(support)
    again = pickle.loads(pickle.dumps(predictor))
    assert torch.equal(again(query.x), predictor(query.x))


@pytest.mark.service
def test_pickled_after_fit_it_is_the_same_in_a_fresh_process(tmp_path):
    torch.manual_seed(0)
    learner, data = PrototypicalNetwork(Conv4(8)), DOMAINS["glyphs"].data()
    quiet(max_steps=1, limit_val_batches=0, default_root_dir=tmp_path).fit(learner, data)
    support, query = one(data.episodes("test"))
    predictor = learner.adapt(support)
    assert torch.equal(pickled_and_used(predictor, query.x, tmp_path), predictor(query.x))


class Counting(Conv4):
    """Notes how many images each forward pass embeds."""

    def forward(self, x):
        Counting.seen.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda network: PrototypicalNetwork(network),
        lambda network: MatchingNetwork(network),
        lambda network: R2D2(network),
        lambda network: SimpleShot(network, classes=40),
        lambda network: MAML(Classifier(network, ways=5), inner_lr=0.1),
    ],
)
def test_a_call_embeds_the_queries_alone(make):
    torch.manual_seed(0)
    Counting.seen = []
    predictor = make(Counting(8, batch_norm="running")).adapt(
        Labelled(torch.rand(25, 1, 28, 28), torch.arange(5).repeat(5))
    )
    Counting.seen = []
    predictor(torch.rand(3, 1, 28, 28))
    assert Counting.seen == [3]


@pytest.mark.slow  # a measurement of time
@pytest.mark.parametrize("make", [PrototypicalNetwork, lambda n: MAML(Classifier(n, 5), inner_lr=0.1)])
def test_a_call_costs_little_more_than_the_networks_forward_pass(make):
    network = Conv4(64, batch_norm="running")
    learner = make(network).eval()
    predictor = learner.adapt(Labelled(torch.rand(25, 1, 28, 28), torch.arange(5).repeat(5)))
    x, ratios = torch.rand(5, 1, 28, 28), []
    with torch.no_grad():
        for _ in range(60):
            start = time.perf_counter()
            predictor(x)
            middle = time.perf_counter()
            network(x)
            ratios.append((middle - start) / (time.perf_counter() - middle))
    assert sorted(ratios)[30] <= 1.5


def five(**given):
    x = given.get("x", torch.rand(5, 1, 28, 28))
    return Labelled(x, given.get("y", torch.arange(5)))


REFUSED = {
    "more_labels": (MAML, five(y=torch.arange(6)), r"inputs \[5, 1, 28, 28\] and labels \[6\]"),
    "with_the_axis_of_tasks": (
        MAML,
        five(x=torch.rand(1, 5, 1, 28, 28)),
        r"inputs \[1, 5, 1, 28, 28\] and labels \[5\]",
    ),
    "nothing": (MAML, five(x=torch.rand(0, 1, 28, 28), y=torch.arange(0)), "at least one"),
    "column_of_labels": (MAML, five(y=torch.arange(5)[:, None]), r"shape \[5, 1\], but must be \[5\]"),
    "three_classes": (
        MAML,
        five(y=torch.tensor([0, 1, 2, 0, 1])),
        r"3 classes, but the network 5 outputs.*data\.ways",
    ),
    "eight_classes": (
        ANIL,
        five(x=torch.rand(8, 1, 28, 28), y=torch.arange(8)),
        "8 classes, but the network 5 outputs",
    ),
    "bayesian": (
        BayesianMAML,
        five(x=torch.rand(8, 1, 28, 28), y=torch.arange(8)),
        "8 classes, but the network 5 outputs",
    ),
    "double": (
        MAML,
        five(x=torch.rand(5, 1, 28, 28).double()),
        "float64, but the network computes in float32",
    ),
    "integers": (MAML, five(x=torch.ones(5, 1, 28, 28).long()), "MAML cannot learn from inputs .* int64"),
    "more_channels": (LEO, five(x=torch.rand(5, 2, 28, 28)), "in_channels is 1, expected 2"),
    "numbers": (MAML, five(x=[1.0, 2.0]), "hold a float, but must be tensors"),
    "parts_of_different_lengths": (
        MAML,
        five(x={"a": torch.rand(5, 3), "b": torch.rand(4)}),
        r"{'a': \[5, 3\], 'b': \[4\]}",
    ),
    "leo": (LEO, five(y=torch.tensor([0, 1, 2, 0, 1])), "3 classes, but LEO's network 5"),
    "values_for_a_classifier": (PrototypicalNetwork, five(y=torch.rand(5, 1)), "classifies, but the labels"),
    "values_for_five_outputs": (
        MAML,
        five(y=torch.rand(5, 1)),
        r"shape \[5, 1\], but the predictions \[5, 5\]",
    ),
    "memory": (MANN, five(y=torch.tensor([0, 1, 2, 0, 1])), "ways is 5"),
}


def small(algorithm):
    if algorithm is MANN:
        return MANN(Pixels(10), ways=5, hidden=8, slots=8, slot_size=4)
    if algorithm is PrototypicalNetwork:
        return PrototypicalNetwork(Conv4(8))
    return algorithm(Classifier(Conv4(8, downsample="stride"), ways=5))


@pytest.mark.parametrize("what", REFUSED)
def test_a_support_set_that_cannot_be_learned_is_refused(what):
    algorithm, support, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        small(algorithm).adapt(support)


QUERIES = {
    "shape": (torch.rand(2, 1, 20, 20), r"\[n, 1, 20, 20\] float32, but .* were \[n, 1, 28, 28\] float32"),
    "no_batch": (torch.rand(1, 28, 28), r"\[n, 28, 28\] float32, but"),
    "dtype": (torch.rand(2, 1, 28, 28).double(), "float64, but"),
    "structure": ({"image": torch.rand(2, 1, 28, 28)}, "but those of the support set"),
    "number": (torch.rand(()), "but those of the support set"),
}


@pytest.mark.parametrize("what", QUERIES)
@pytest.mark.parametrize("algorithm", [MAML, PrototypicalNetwork, MANN])
def test_queries_unlike_the_support_set_are_refused(algorithm, what):
    x, message = QUERIES[what]
    predictor = small(algorithm).adapt(five())
    with pytest.raises(ValueError, match=message):
        predictor(x)


@pytest.mark.parametrize("algorithm", [MAML, PrototypicalNetwork])
def test_uint8_images_are_scaled_as_the_data_modules_do(algorithm):
    torch.manual_seed(0)
    learner, images = small(algorithm), torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    scaled, raw = learner.adapt(five(x=images[:5] / 255)), learner.adapt(five(x=images[:5]))
    assert torch.equal(scaled(images[5:] / 255), raw(images[5:]))


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_it_holds_nothing_of_the_callers_tensors(batch_norm):
    torch.manual_seed(0)
    learner, support = PrototypicalNetwork(Conv4(8, batch_norm=batch_norm)), five(x=torch.rand(5, 1, 28, 28))
    predictor, x = learner.adapt(support), torch.rand(3, 1, 28, 28)
    before = predictor(x)
    support.x.zero_()
    assert torch.equal(predictor(x), before)
    large = Labelled(torch.rand(200, 1, 28, 28), torch.arange(200) % 5)
    sizes = [len(pickle.dumps(learner.adapt(examples))) for examples in (support, large)]
    assert (sizes[1] > 2 * sizes[0]) == (batch_norm == "batch")  # which has to embed the support set with the queries


class Keeping(nn.Module):
    """Keeps what it computes, in a list."""

    def __init__(self):
        super().__init__()
        self.layer, self.kept = nn.Linear(4, 3), []

    def forward(self, x):
        self.kept.append(self.layer(x))
        return self.kept[-1]


def test_activations_that_a_network_keeps_are_left_out():
    learner = MAML(Keeping())
    support = Labelled(torch.rand(6, 4), torch.arange(3).repeat(2))
    episode = tree_map(lambda leaf: leaf.unsqueeze(0), (support, support))
    learner.meta_loss(Episode(*episode, torch.arange(1))).backward()
    assert learner.adapt(support)(torch.rand(2, 4)).shape == (2, 3)


def test_a_dictionary_may_come_in_any_order():
    class Named(nn.Module):
        features = 4

        def forward(self, x):
            return x["values"] * x["scale"]

    x = {"values": torch.rand(4, 4), "scale": torch.ones(4, 1)}
    predictor = PrototypicalNetwork(Named()).adapt(Labelled(x, torch.arange(4)))
    other = {"scale": x["scale"], "values": x["values"]}
    assert torch.equal(predictor(other), predictor(x))


@pytest.mark.parametrize("index", [torch.arange(2), torch.zeros(3), torch.arange(3).unsqueeze(0)])
def test_an_index_that_does_not_number_the_tasks_is_refused(index):
    """By a shorter one, tasks would be left out without a word."""
    part = Labelled(torch.rand(3, 4, 1), torch.rand(3, 4, 1))
    with pytest.raises(ValueError, match=r"index is .*but it has 3 tasks"):
        MAML(MLP())(Episode(part, part, index))


def test_regression_has_no_classes():
    predictor = MAML(MLP()).adapt(Labelled(torch.rand(4, 1), torch.rand(4, 1)))
    assert predictor.classes is None
    with pytest.raises(ValueError, match="no labels"):
        predictor.labels(torch.rand(2, 1))
    assert predictor(torch.rand(2, 1)).shape == (2, 1)


@pytest.mark.parametrize("shape", [[4], [4, 2]])
def test_targets_of_another_shape_than_the_outputs_are_refused(shape):
    with pytest.raises(ValueError, match=r"the targets have shape .* but the predictions \[4, 1\]"):
        MAML(MLP()).adapt(Labelled(torch.rand(4, 1), torch.rand(shape)))


@pytest.mark.parametrize("learner", [PrototypicalNetwork, TIM, PTMAP, TipAdapter])
def test_without_parameters_the_inputs_decide_the_precision(learner):
    """Features computed elsewhere are often float64, in which such a method is then computed."""
    torch.manual_seed(0)
    support, query = Labelled(torch.rand(6, 4), torch.arange(3).repeat(2)), torch.rand(5, 4)
    single = learner(nn.Identity()).adapt(support)(query)
    double = learner(nn.Identity()).adapt(Labelled(support.x.double(), support.y))(query.double())
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="float16, but the network computes in float32 or float64"):
        learner(nn.Identity()).adapt(Labelled(support.x.half(), support.y))
