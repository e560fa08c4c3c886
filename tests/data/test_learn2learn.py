import random
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch.utils.data import Dataset

from metalit import learn2learn_compat
from metalit.data import ClassStore
from metalit.data.learn2learn import LearnToLearnTasksets, TasksetStream, as_learn2learn_dataset, random_state
from metalit.data.module import EpisodicDataModule
from metalit.learn2learn_compat import INSTALL, import_learn2learn

needs_learn2learn = pytest.mark.skipif(find_spec("learn2learn") is None, reason=INSTALL)
CLASSES, EXAMPLES = 8, 7
FAMILY = ("learn2learn", "gym", "torchvision")


def numbered_store(first_class=0):
    """Example e of class c is the number 100 c + e."""
    numbers = torch.arange(CLASSES)[:, None] * 100 + torch.arange(EXAMPLES) + 100 * first_class
    return ClassStore.from_classes({f"class {c}": row[:, None].float() for c, row in enumerate(numbers)})


class Noisy(Dataset):
    """Numbered examples with a change that is drawn from all three global generators."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        x, y = self.dataset[index]
        return x + torch.cat([torch.tensor([random.random(), np.random.rand()]), torch.rand(1)]) / 9, y  # noqa: NPY002


def taskset(dataset, ways=3, k=5, num_tasks=-1, transforms=("NWays", "KShots", "LoadData", "RemapLabels")):
    data = import_learn2learn("data")
    meta = data.MetaDataset(dataset)
    arguments = {"NWays": {"n": ways}, "KShots": {"k": k}}
    made = [getattr(data.transforms, name)(meta, **arguments.get(name, {})) for name in transforms]
    return data.Taskset(meta, made, num_tasks=num_tasks)


def three(num_tasks=-1, noisy=False, **options):
    datasets = (as_learn2learn_dataset(numbered_store(CLASSES * split)) for split in range(3))
    return [taskset(Noisy(d) if noisy else d, num_tasks=num_tasks, **options) for d in datasets]


def module(tasksets=three, options=None, **settings):
    return LearnToLearnTasksets(tasksets, options, **{"ways": 3, "shots": 2, "queries": 3, "seed": 5, **settings})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip([*a.support, *a.query], [*b.support, *b.query], strict=True))


@needs_learn2learn
def test_a_task_becomes_a_support_and_a_query_set():
    episode = module().episodes("val", 0, 20)
    assert episode.support.x.shape == (20, 6, 1)
    assert episode.query.x.shape == (20, 9, 1)
    assert torch.equal(episode.support.y, torch.tensor([0, 0, 1, 1, 2, 2]).expand(20, 6))
    assert torch.equal(episode.query.y, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]).expand(20, 9))
    rows = torch.cat([episode.support.x, episode.query.x], dim=1).squeeze(-1)
    labels = torch.cat([episode.support.y, episode.query.y], dim=1)
    for numbers, y in zip(rows.long(), labels, strict=True):
        assert len(numbers.unique()) == 15, "an example is in support and query"
        classes = numbers // 100
        assert len({(int(c), int(label)) for c, label in zip(classes, y, strict=True)}) == 3
    assert len(rows.unique(dim=0)) == 20
    assert len({tuple((task // 100).tolist()) for task in rows}) > 10, "labels must be shuffled over classes"


@needs_learn2learn
def test_training_may_have_other_ways_shots_and_queries():
    data = module(options={"ways": 4, "k": 4}, train_ways=4, train_shots=1, train_queries=2)
    train = data.episodes("train", 0, 2)
    assert (train.support.x.shape, train.query.x.shape) == ((2, 4, 1), (2, 8, 1))
    with pytest.raises(ValueError, match="val taskset"):
        data.episodes("val")


@needs_learn2learn
@pytest.mark.parametrize("num_tasks", [-1, 6])
def test_an_episode_depends_on_seed_split_and_index_alone(num_tasks):
    options = {"num_tasks": num_tasks, "noisy": True}
    forward = module(options=options)
    first = [forward.episodes("train", i) for i in range(9)]
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    other = module(options=options)
    for i in (8, 2, 2, 0):
        assert same(other.episodes("train", i), first[i])
    together = other.episodes("train", 3, 4)
    for j in range(4):
        assert torch.equal(together.query.x[j], first[3 + j].query.x[0])
    assert not same(first[0], first[1])
    # The data of another split are other numbers; what must differ is the draw of classes and examples.
    assert not torch.equal(other.episodes("val").query.x.long() % 100, first[0].query.x.long() % 100)
    assert not same(module(options=options, seed=6).episodes("train", 0), first[0])


@needs_learn2learn
def test_a_fixed_number_of_tasks_is_repeated_with_new_augmentation():
    data = module(options={"num_tasks": 6, "noisy": True})
    once, again = data.episodes("test", 1), data.episodes("test", 7)
    assert torch.equal(once.support.x.long(), again.support.x.long())
    assert not torch.equal(once.support.x, again.support.x)
    assert not torch.equal(once.support.x.long(), data.episodes("test", 2).support.x.long())


@needs_learn2learn
def test_the_loader_serves_the_same_episodes():
    data = module(tasks_per_batch=4)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    next(batches)
    assert same(next(batches), data.episodes("train", 4, 4))


def test_random_state_decides_all_three_generators_and_leaves_them_as_they_were():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    with random_state(2**64 - 1):
        a = draw()
    with random_state(2**64 - 1):
        b = draw()
    with random_state(3):
        c = draw()
    with pytest.raises(ZeroDivisionError), random_state(1):
        draw()[0] / 0
    assert a == b
    assert all(x != y for x, y in zip(a, c, strict=True))
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


@needs_learn2learn
def test_uint8_images_become_floats():
    images = ClassStore.from_classes(
        {str(c): torch.full((EXAMPLES, 1, 2, 2), 51 * c, dtype=torch.uint8) for c in range(5)}
    )
    dataset = as_learn2learn_dataset(images)
    x, y = dataset[4 * EXAMPLES]
    assert (x.dtype, y) == (torch.float32, 4)
    assert torch.allclose(x, torch.full((1, 2, 2), 0.8))

    class Raw(Dataset):
        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            return images.items[index], dataset.labels[index]

    episode = module([taskset(Raw())] * 3).episodes("train")
    assert episode.support.x.dtype == torch.float32
    assert set(episode.support.x.unique().tolist()) <= {float(np.float32(c) / 5) for c in np.arange(5)}


@needs_learn2learn
@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"ways": 4}, {}, r"labels \[0, 1, 2, 3\].*labels 0\.\.2.*NWays\(n=3\)"),
        ({"transforms": ("NWays", "KShots", "LoadData")}, {}, r"labels 0\.\.2.*RemapLabels"),
        ({"k": 4}, {}, r"4 examples of label 0.*2 \+ 3 = 5.*KShots\(k=5\)"),
        ({}, {"queries": 4}, r"5 examples of label 0.*KShots\(k=6\)"),
    ],
)
def test_tasks_that_do_not_fit_are_explained(options, settings, message):
    with pytest.raises(ValueError, match=message):
        module(options=options, **settings).episodes("train")


@needs_learn2learn
def test_classes_named_by_strings_are_refused():
    class Named(Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return torch.zeros(1), "ab"[index // 5]

    with pytest.raises(ValueError, match=r"by strings, such as 'a'.*number the classes"):
        module([taskset(Named())] * 3, ways=2).episodes("train")


@needs_learn2learn
@pytest.mark.parametrize(
    ("tasksets", "message"),
    [
        (
            "no_such_module.make",
            "no_such_module.make, expected the import path of a function.*cannot be imported",
        ),
        ("math.no_such_function", "math.no_such_function.*cannot be imported"),
        (lambda: three()[:2], "three learn2learn.data.Taskset"),
        (lambda: [1, 2, 3], "three learn2learn.data.Taskset"),
        (lambda: None, "gave None"),
    ],
)
def test_a_wrong_source_of_tasksets_is_explained(tasksets, message):
    with pytest.raises(ValueError, match=message):
        module(tasksets).episodes("train")


@needs_learn2learn
@pytest.mark.parametrize("options", [{"ways": 3}, {"ways": 3, "k": 5, "shots": 1}])
def test_options_that_the_function_does_not_take_are_explained(options):
    def make(ways, k):
        return three(ways=ways, k=k)

    with pytest.raises(ValueError, match=r"data\.options has \['.*make\(ways, k\) does not take that"):
        module(make, options).episodes("train")


@needs_learn2learn
def test_a_task_that_does_not_fit_is_found_before_any_worker_starts():
    with pytest.raises(ValueError, match="val taskset has the labels"):
        module(options={"ways": 4}, train_ways=4, num_workers=2).setup("fit")


@needs_learn2learn
def test_fewer_than_two_ways_are_refused():
    with pytest.raises(ValueError, match="ways is 1"):
        module(ways=1)


@needs_learn2learn
def test_the_class_split_follows_split_seed_and_not_seed():
    def drawn_split():
        classes = list(range(CLASSES))
        random.shuffle(classes)
        data = import_learn2learn("data")
        whole = data.MetaDataset(as_learn2learn_dataset(numbered_store()))
        parts = [data.FilteredMetaDataset(whole, labels=labels) for labels in (classes[:3], classes[3:6], classes[5:])]
        return [taskset(part) for part in parts]

    def training_classes(**settings):
        numbers = module(drawn_split, **settings).episodes("train", 0, 30).support.x
        return set((numbers.long() // 100).unique().tolist())

    assert training_classes(seed=1) == training_classes(seed=2)
    assert len({tuple(training_classes(split_seed=s)) for s in range(6)}) > 1


@needs_learn2learn
def test_a_yaml_file_can_name_the_function(tmp_path, monkeypatch):
    """The function may import learn2learn in the ordinary way."""
    (tmp_path / "own_tasksets.py").write_text(
        "import learn2learn as l2l\n"
        "from metalit.data.learn2learn import as_learn2learn_dataset\n"
        "from metalit.data import ClassStore\n"
        "import torch\n"
        "def make(ways, k):\n"
        "    store = ClassStore.from_classes({str(c): torch.full((6, 1), float(c)) for c in range(5)})\n"
        "    data = l2l.data.MetaDataset(as_learn2learn_dataset(store))\n"
        "    t = l2l.data.transforms\n"
        "    made = [t.NWays(data, ways), t.KShots(data, k), t.LoadData(data), t.RemapLabels(data)]\n"
        "    return [l2l.data.Taskset(data, made) for _ in range(3)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        "data:\n"
        "  class_path: metalit.data.learn2learn.LearnToLearnTasksets\n"
        "  init_args: {tasksets: own_tasksets.make, options: {ways: 2, k: 4}, ways: 2, shots: 1, queries: 3}\n"
    )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(EpisodicDataModule, "data")
    data = parser.instantiate(parser.parse_args(["--config", str(config)])).data
    assert data.episodes("train", 0, 2).query.x.shape == (2, 6, 1)
    assert data.setting()["tasksets"] == "own_tasksets.make"
    sys.modules.pop("own_tasksets")


@needs_learn2learn
def test_metalit_reads_a_store_alike_directly_and_through_learn2learn():
    """Label by label the rows of an episode are rows of one class of the store."""
    store = numbered_store()
    dataset = as_learn2learn_dataset(store)
    data = import_learn2learn("data")
    quick = data.MetaDataset(dataset, dataset.labels_to_indices, dataset.indices_to_labels)
    slow = data.MetaDataset(dataset)
    assert quick.labels_to_indices == dict(slow.labels_to_indices)
    assert quick.indices_to_labels == dict(slow.indices_to_labels)
    assert quick.labels == slow.labels
    for _ in range(5):
        x, y = taskset(dataset).sample()
        assert x.shape == (15, 1)
        for label in range(3):
            assert len((x[y == label] // 100).unique()) == 1
            assert len(x[y == label].unique()) == 5
    stream = TasksetStream(taskset(dataset), split="train", seed=0, ways=3, shots=2, queries=3)
    assert torch.isin(stream(0, 3).query.x, store.items).all()


@needs_learn2learn
def test_the_parts_of_learn2learn_import_and_meet_under_its_name():
    algorithms, vision = import_learn2learn("algorithms"), import_learn2learn("vision.models")
    import learn2learn

    assert learn2learn.algorithms.MAML is algorithms.MAML
    assert learn2learn.vision.models.CNN4 is vision.CNN4
    assert import_learn2learn("algorithms") is algorithms


def test_a_learn2learn_that_is_already_imported_is_left_alone(monkeypatch):
    full, part = ModuleType("learn2learn"), ModuleType("learn2learn.data")
    monkeypatch.setitem(sys.modules, "learn2learn", full)
    monkeypatch.setitem(sys.modules, "learn2learn.data", part)
    assert import_learn2learn("data") is part
    assert sys.modules["learn2learn"] is full


@pytest.mark.parametrize("there", [True, False])
def test_only_a_learn2learn_that_cannot_be_imported_whole_is_entered_bare(monkeypatch, tmp_path, there):
    package = tmp_path / "learn2learn"
    (package / "vision").mkdir(parents=True)
    (package / "__init__.py").write_text("import gym\nwhole = True\n")
    for part in ("utils", "data", "algorithms", "nn", "optim", "text"):
        (package / f"{part}.py").touch()
    (package / "vision" / "__init__.py").write_text("import torchvision\nwhole = True\n")
    (package / "vision" / "models.py").touch()
    if there:
        (tmp_path / "gym.py").touch()
        (tmp_path / "torchvision.py").touch()
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in FAMILY}
    for name in kept:
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    if not there:
        found = learn2learn_compat.find_spec
        lacking = ("gym", "torchvision")
        monkeypatch.setattr(learn2learn_compat, "find_spec", lambda n: None if n in lacking else found(n))
    try:
        assert import_learn2learn("data").__file__ == str(package / "data.py")
        assert import_learn2learn("vision.models").__file__ == str(package / "vision" / "models.py")
        assert hasattr(sys.modules["learn2learn"], "whole") is there
        assert hasattr(sys.modules["learn2learn"].vision, "whole") is there
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in FAMILY]:
            del sys.modules[name]
        sys.modules.update(kept)


@pytest.mark.slow
def test_without_learn2learn_the_message_says_how_to_install_it():
    """And neither metalit nor its data sets import it."""
    program = (
        "import sys, importlib.util as u\n"
        "import metalit, metalit.data, metalit.data.learn2learn as m\n"
        "assert 'learn2learn' not in sys.modules\n"
        "found = m.import_learn2learn.__globals__\n"
        "found['find_spec'] = lambda name: None\n"
        "try: m.LearnToLearnTasksets(tasksets=[])\n"
        "except ImportError as error: print(error)\n"
    )
    path = [p for p in sys.path if p]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "make install" in done.stdout
    assert "pip install --no-deps -r requirements/l2l.txt" in done.stdout
