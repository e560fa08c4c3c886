"""Training inputs reach the encoders that need them, in every way a learner comes to its first episode."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import metalit
from metalit.algorithms import MAML, PrototypicalNetwork, SimpleShot
from metalit.data.texts import HashedWords, PretrainedTokenizer, TextClasses
from metalit.errors import SettingError, UserError
from metalit.main import main
from metalit.networks import BagOfWords, Classifier, TextTransformer
from metalit.networks.texts.word_weights import WordWeights
from miniature_texts import rows_of_classes, write_csv, write_tokenizer

V = 50
SMALL = {"ways": 2, "shots": 1, "queries": 2, "tasks_per_batch": 2}
SMALL |= {"episodes_per_epoch": 2, "val_episodes": 2, "test_episodes": 2}


@pytest.fixture
def root(tmp_path):
    write_csv(tmp_path / "all.csv", rows_of_classes(10, 6))
    return tmp_path


def texts(root, **settings):
    return TextClasses(root=str(root), **{"tokenizer": HashedWords(size=V), **SMALL, **settings})


def expected(data):
    """The idf of the training split, counted here."""
    data.episodes("train")
    store = data.stores["train"]
    x = store.take(torch.arange(int(store.class_sizes.sum())))
    has = torch.stack([torch.bincount(ids[mask], minlength=V) > 0 for ids, mask in zip(x.ids, x.mask, strict=True)])
    return ((1 + len(has)) / (1 + has.sum(0).double())).log().float() + 1


def idf(learner):
    (found,) = (part.idf for part in learner.modules() if isinstance(part, WordWeights))
    return found


def trainer(root, **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    usual = {
        "default_root_dir": root,
        "max_epochs": 1,
        "accelerator": "cpu",
        "inference_mode": False,
        "enable_checkpointing": False,
    }
    return L.Trainer(**{**quiet, **usual, **settings})


LEARNERS = {
    "PrototypicalNetwork": lambda: PrototypicalNetwork(nn.Sequential(BagOfWords(V), nn.Linear(V, 4))),
    "MAML": lambda: MAML(Classifier(TextTransformer(V, 8, heads=2, weighting="idf"), ways=2), inner_lr=0.1),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_training_begins_with_them_and_the_checkpoint_keeps_them(name, root):
    learner, data = LEARNERS[name](), texts(root)
    fit = trainer(root)
    fit.fit(learner, data)
    torch.testing.assert_close(idf(learner), expected(data))
    fit.save_checkpoint(root / "end.ckpt")
    # resumed on a data set with other texts, the learner keeps what it was trained with
    (root / "other").mkdir()
    write_csv(root / "other" / "all.csv", rows_of_classes(10, 9, "how much"))
    resumed = LEARNERS[name]()
    trainer(root, max_epochs=2).fit(resumed, texts(root / "other"), ckpt_path=str(root / "end.ckpt"))
    torch.testing.assert_close(idf(resumed), idf(learner), rtol=0, atol=0)
    assert not torch.allclose(idf(resumed), expected(texts(root / "other")))


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_method_that_is_not_trained_observes_before_its_first_episode(stage, root):
    learner, data = SimpleShot(BagOfWords(V), transform="L2N"), texts(root)
    getattr(trainer(root), stage)(learner, datamodule=data)
    torch.testing.assert_close(idf(learner), expected(data))


def test_the_centre_is_that_of_weighted_words(root):
    learner, data = SimpleShot(BagOfWords(V), transform="CL2N"), texts(root)
    learner.decide(data)
    store = data.stores["train"]
    mean = learner.network(store.take(torch.arange(int(store.class_sizes.sum())))).mean(0)
    torch.testing.assert_close(learner.head.transform.centre, mean)


def test_adapt_without_them_says_what_to_do(root):
    learner, data = SimpleShot(BagOfWords(V), transform="L2N"), texts(root)
    support, query = tree_map(lambda leaf: leaf[0], data.episodes("test")[:2])
    with pytest.raises(UserError, match=r"learner\.decide\(data\)"):
        learner.adapt(support)
    learner.decide(data)
    assert learner.adapt(support)(query.x).shape == (4, 2)


def test_other_tokenizers_are_refused_before_training(root):
    with pytest.raises(SettingError) as error:
        trainer(root).fit(LEARNERS["MAML"](), texts(root, tokenizer=HashedWords(size=V + 1)))
    assert (error.value.name, error.value.value, error.value.owner) == ("vocabulary", V, TextTransformer)
    learner = LEARNERS["MAML"]()
    folder = str(write_tokenizer(root / "tokenizer"))
    own = PretrainedTokenizer(folder)
    learner.network.body.tokenizer_digest, learner.network.body.tokenizer = own.digest, "{class_path: the right one}"
    learner.decide(texts(root, tokenizer=own))
    for start in (lambda data: trainer(root).fit(learner, data), learner.decide):
        with pytest.raises(SettingError, match="the right one") as error:
            start(texts(root))
        assert error.value.name == "data.tokenizer"


CONFIG = """
model:
  class_path: PrototypicalNetwork
  init_args:
    network: {{class_path: TextTransformer, init_args: {{vocabulary: {V}, width: 8, heads: 2, weighting: idf}}}}
data:
  class_path: TextClasses
  init_args:
    root: {root}
    tokenizer: {{class_path: metalit.data.texts.HashedWords, init_args: {{size: {V}}}}}
    ways: 2
    shots: 1
    queries: 2
    episodes_per_epoch: 4
    val_episodes: 2
trainer: {{max_epochs: 1, accelerator: cpu, log_every_n_steps: 1, enable_model_summary: false}}
"""


def test_a_loaded_run_adapts_with_them(root):
    (root / "config.yaml").write_text(CONFIG.format(V=V, root=root))
    main(["fit", "--config", str(root / "config.yaml"), "--run_dir", str(root / "run")])
    learner, data = metalit.load(root / "run")
    torch.testing.assert_close(idf(learner), expected(texts(root)))
    support, query = tree_map(lambda leaf: leaf[0], data.episodes("test")[:2])
    assert learner.adapt(support)(query.x).shape == (4, 2)
