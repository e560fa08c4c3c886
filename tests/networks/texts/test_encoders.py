"""metalit's own encoders of texts: padding, idf, pooling, and what is refused."""

import json
import math

import pytest
import torch

from algorithms.test_battery import assert_same_gradient, meta_gradient
from metalit import Engine, PrototypicalNetwork
from metalit.algorithms import MAML
from metalit.data.features import FrozenFeatures
from metalit.episode import Tokens
from metalit.errors import SettingError, UserError
from metalit.networks import BagOfWords, Classifier, Frozen, Joined, StaticVectors, TextTransformer
from metalit.networks.texts.text_transformer import turned, turns
from metalit.networks.texts.word_weights import WordWeights
from random_texts import WORDS, longer, random_tokens, shaken, text_episode


def observed(network, x=None):
    for part in network.modules():
        if isinstance(part, WordWeights):
            part.observe([random_tokens(9, seed=5) if x is None else x])
    return network


def vectors(folder, **settings):
    torch.manual_seed(0)
    rows = torch.randn(WORDS - 2, 6).tolist()
    path = folder / "vectors.txt"
    path.write_text("".join(f"w{number} {' '.join(map(str, row))}\n" for number, row in enumerate(rows)))
    return StaticVectors(str(path), **settings)


ENCODERS = {
    "bag": lambda _: BagOfWords(WORDS),
    "bag of logarithms": lambda _: BagOfWords(WORDS, log_counts=True),
    "vectors": lambda folder: vectors(folder, trained=True),
    "vectors by idf": lambda folder: vectors(folder, weighting="idf", normalise=True),
    "mean of words": lambda _: TextTransformer(WORDS, width=8, layers=0, weighting="idf"),
    "transformer": lambda _: TextTransformer(WORDS, width=8, heads=2),
    "transformer by idf": lambda _: TextTransformer(WORDS, width=8, heads=2, weighting="idf"),
    "first": lambda _: TextTransformer(WORDS, width=8, heads=2, pool="first"),
    "last": lambda _: TextTransformer(WORDS, width=8, heads=2, pool="last"),
    "marks": lambda _: TextTransformer(WORDS, width=8, heads=2, pool="marks"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_changes_nothing_and_the_length_is_known(name, tmp_path):
    torch.manual_seed(0)
    network = shaken(observed(ENCODERS[name](tmp_path))).float()
    x = random_tokens(5, marked=name == "marks")
    short, long = network(x), network(longer(x))
    assert short.shape == (5, network.features)
    torch.testing.assert_close(long, short, rtol=0, atol=1e-6)
    alone = network(type(x)(*(leaf[2:3] for leaf in x)))
    torch.testing.assert_close(alone, short[2:3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("log_counts", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_bag_of_words_is_scikit_learns(log_counts, normalise):
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="needs metalit[sklearn]")
    train, x = random_tokens(30, seed=1), random_tokens(5, seed=2)

    def words(of):
        return [" ".join(f"w{id}" for id in ids[mask].tolist()) for ids, mask in zip(of.ids, of.mask, strict=True)]

    names = [f"w{id}" for id in range(WORDS)]
    theirs = text.TfidfVectorizer(vocabulary=names, sublinear_tf=log_counts, norm="l2" if normalise else None)
    expected = torch.from_numpy(theirs.fit(words(train)).transform(words(x)).toarray())
    bag = BagOfWords(WORDS, log_counts=log_counts, normalise=normalise).double()
    bag.words.observe([Tokens(*(leaf[part] for leaf in train)) for part in (slice(20), slice(20, 30))])
    torch.testing.assert_close(bag(x), expected, rtol=1e-6, atol=1e-6)


def test_a_word_of_no_training_text_has_the_largest_weight():
    weights = WordWeights(WORDS)
    weights.observe([Tokens(torch.tensor([[3, 3, 0], [3, 4, 5]]), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool())])
    assert weights.idf[7].item() == pytest.approx(math.log(3 / 1) + 1)  # no text
    assert weights.idf[4].item() == pytest.approx(math.log(3 / 2) + 1)  # one text
    assert weights.idf[3].item() == pytest.approx(1)  # both texts, however often
    assert weights.idf[0].item() == weights.idf[7].item()  # padding is no word


def test_without_training_texts_idf_is_an_error():
    learner = PrototypicalNetwork(BagOfWords(WORDS)).eval()
    with pytest.raises(UserError, match="training texts"):
        learner.evaluate(text_episode())
    assert BagOfWords(WORDS, weighting="none")(random_tokens(2)).shape == (2, WORDS)


def test_idf_is_in_the_state_dict():
    bag, other = observed(BagOfWords(WORDS)), BagOfWords(WORDS)
    other.load_state_dict(bag.state_dict())
    torch.testing.assert_close(other(random_tokens(3)), bag(random_tokens(3)))


def test_the_untrained_transformer_is_a_projection_of_the_bag_of_words():
    network, x = observed(TextTransformer(WORDS, width=8, heads=2, weighting="idf")), random_tokens(5)
    bag = observed(BagOfWords(WORDS, normalise=False))(x)
    expected = bag @ network.words.weight / bag.sum(dim=1, keepdim=True)
    torch.testing.assert_close(network(x), expected)
    # and its branches learn from the first step on
    network(x).square().sum().backward()
    assert all(layer.out.weight.grad.any() and layer.narrow.weight.grad.any() for layer in network.layers)


def test_turning_makes_scores_depend_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 6, dtype=torch.float64)
    turn = turns(9, 6, q)
    scores = turned(q.expand(1, 1, 9, 6), turn) @ turned(k.expand(1, 1, 9, 6), turn).mT
    for distance in range(-3, 4):
        diagonal = scores[0, 0].diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert scores[0, 0, 0, 1] != scores[0, 0, 1, 0]


def test_transformer_reads_the_order_of_words():
    network = shaken(TextTransformer(WORDS, width=8, heads=2))
    x = random_tokens(1, length=8)
    assert (network(x) - network(x._replace(ids=x.ids.flip(-1)))).abs().max() > 1e-3


def test_dropped_words_only_in_training():
    network, x = TextTransformer(WORDS, width=8, layers=0, word_dropout=0.5), random_tokens(5)
    assert (network(x) - network(x)).abs().max() > 0
    network.eval()
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)


def test_marks_are_the_states_of_the_two_places():
    x = random_tokens(4, marked=True)
    network = shaken(TextTransformer(WORDS, width=8, layers=0, pool="marks"))
    states = network.words(x.ids)
    expected = torch.stack([states[n, x.spans[n]].flatten() for n in range(4)])
    torch.testing.assert_close(network(x), expected)
    assert network.features == 16


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"width": 6}, "width"),
        ({"heads": 0}, "heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"word_dropout": -0.1}, "word_dropout"),
        ({"layers": -1}, "layers"),
        ({"pool": "first", "weighting": "idf"}, "weighting"),
        ({"vocabulary": 0}, "vocabulary"),
        ({"word_length": 0.0}, "word_length"),
    ],
)
def test_settings_out_of_range(settings, name):
    with pytest.raises(SettingError) as error:
        TextTransformer(**{"vocabulary": WORDS, "width": 8, "heads": 2, **settings})
    assert error.value.name == name


def test_what_the_inputs_must_have():
    with pytest.raises(SettingError, match="no two marked places"):
        TextTransformer(WORDS, width=8, heads=2, pool="marks")(random_tokens(2))
    with pytest.raises(SettingError, match="Tokens"):
        TextTransformer(WORDS, width=8, heads=2)(torch.zeros(2, 8))


def test_static_vectors_are_the_mean_of_known_words(tmp_path):
    (tmp_path / "v.txt").write_text("a 1 0\nb 0 1\n")
    network = StaticVectors(str(tmp_path / "v.txt"))
    x = Tokens(
        torch.tensor([[2, 3, 1, 0], [2, 2, 3, 0], [1, 0, 0, 0]]),
        torch.tensor([[1, 1, 1, 0]] * 2 + [[1, 0, 0, 0]]).bool(),
    )
    torch.testing.assert_close(network(x), torch.tensor([[1 / 2, 1 / 2], [2 / 3, 1 / 3], [0, 0]]))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert (network.vocabulary, network.features) == (4, 2)


def test_joined_encoders_add_their_similarities():
    parts = [observed(BagOfWords(WORDS)), TextTransformer(WORDS, width=8, layers=0, word_length=0.05)]
    joined, x = Joined(parts), random_tokens(5)
    assert joined.features == WORDS + 8
    with torch.no_grad():
        joined.weights.copy_(torch.tensor([2.0, 3.0]).log())
    bag, learned = parts[0](x), parts[1](x)
    unit = learned / learned.norm(dim=1, keepdim=True)
    torch.testing.assert_close(joined(x) @ joined(x).T, 4 * bag @ bag.T + 9 * unit @ unit.T)
    joined.normalise = False
    torch.testing.assert_close(joined(x) @ joined(x).T, 4 * bag @ bag.T + 9 * learned @ learned.T)
    assert learned.norm(dim=1).max() < 0.05
    with pytest.raises(UserError, match="no networks"):
        Joined([])


@pytest.mark.slow
def test_the_compiler_takes_its_attention_inside_vmap():
    """It does not take all of torch there: ``unflatten`` is refused."""

    def found(engine):
        torch.manual_seed(0)
        network = shaken(TextTransformer(WORDS, width=8, heads=2, layers=1))
        return meta_gradient(PrototypicalNetwork(network, engine=engine), text_episode())

    compiled = found(Engine(compile=True, compile_backend="aot_eager"))
    assert_same_gradient(compiled, found(Engine()))


@pytest.mark.parametrize("name", ENCODERS)
def test_results_state_the_encoder(name, tmp_path):
    network = ENCODERS[name](tmp_path)
    expected = {
        "BagOfWords": {"weighting", "log_counts", "normalise"},
        "StaticVectors": {"path", "features", "weighting", "normalise", "trained"},
        "TextTransformer": {"width", "layers", "heads", "pool", "weighting"},
    }
    settings = [
        PrototypicalNetwork(network).setting(),
        MAML(Classifier(network, ways=2)).setting() if name != "bag" else network.setting(),
        FrozenFeatures(Frozen(network)).setting(),
    ]
    for setting in settings:
        assert setting["encoder"] == type(network).__name__
        assert setting["encoder_settings"].keys() >= expected[setting["encoder"]]
        json.dumps(setting)
    assert settings[0]["encoder_settings"] == settings[2]["encoder_settings"]


def test_the_settings_of_a_transformer_are_its_own():
    found = TextTransformer(WORDS, width=8, heads=2, layers=1, pool="last").setting()["encoder_settings"]
    numbers = {"width": 8, "layers": 1, "heads": 2, "feedforward": 16, "dropout": 0.0, "word_dropout": 0.0}
    assert found == {**numbers, "pool": "last", "weighting": "none", "word_length": 1.0}
    assert TextTransformer(WORDS, 8, heads=2, feedforward=5).setting()["encoder_settings"]["feedforward"] == 5
