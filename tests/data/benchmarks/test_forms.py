"""The published image data sets from every form on disk: the same images become the same store."""

import json
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch

import miniature_benchmarks as write
from metalit.data import CIFARFS, CUB, FC100, MiniImageNet, TieredImageNet
from metalit.data.benchmarks.arrays import read_npz
from metalit.data.splits import published_classes
from metalit.data.stream import SPLITS
from metalit.errors import SettingError, UserError

EACH = 3  # images of a class
SIZE = 8  # pixels of what is 84 in the real data
COUNTS = {
    "mini_imagenet": (64, 16, 20),
    "tiered_imagenet": (351, 97, 160),
    "cifar_fs": (64, 16, 20),
    "fc100": (60, 20, 20),
    "cub": (100, 50, 50),
}


def official(root):
    write.write_cifar100(root, EACH)


def archive(root):
    write.write_cifar100(root, EACH, archive=True)


def pickles(data_set, pattern, **how):
    names = {split: pattern.format(split) for split in SPLITS}
    size = 32 if data_set in ("cifar_fs", "fc100") else SIZE
    return lambda root: write.write_labelled_pickles(root, data_set, names, EACH, size, **how)


def npz(data_set, pattern, size):
    return lambda root: write.write_npz(root, data_set, {s: pattern.format(s) for s in SPLITS}, EACH, size)


def folders(data_set, size, above):
    return lambda root: write.write_folders(root, data_set, EACH, size, above)


GIDARIS = {
    "train": "miniImageNet_category_split_train_phase_train.pickle",
    "val": "miniImageNet_category_split_val.pickle",
    "test": "miniImageNet_category_split_test.pickle",
}
EVERY = sorted(name for split in SPLITS for name in published_classes("cifar_fs")[split])
RANKS = {name: rank for rank, name in enumerate(EVERY)}
FORMS = {
    CIFARFS: {
        "official files": official,
        "official archive": archive,
        "pickles with CIFAR-100's numbers": pickles("cifar_fs", "CIFAR_FS_{}.pickle", numbers=RANKS),
        "npz": npz("cifar_fs", "cifar_fs_{}.npz", 32),
        "parquet": lambda root: write.write_parquet(root, EACH, paths=True),
        "folders": folders("cifar_fs", 32, "cifar100/data"),
        "folders of learn2learn": folders("cifar_fs", 32, "cifarfs/processed/{split}"),
    },
    FC100: {
        "official files": official,
        "pickles with CIFAR-100's numbers": pickles("fc100", "FC100_{}.pickle", numbers=RANKS, protocol=4),
        "parquet without names": lambda root: write.write_parquet(root, EACH, paths=False, names=False),
        "folders": folders("fc100", 32, "fc100/{split}"),
    },
    MiniImageNet: {
        "learn2learn": lambda root: write.write_learn2learn_caches(root, EACH, SIZE),
        "Gidaris": lambda root: write.write_labelled_pickles(root, "mini_imagenet", GIDARIS, EACH, SIZE, tables=True),
        "npz": npz("mini_imagenet", "mini_imagenet_{}.npz", SIZE),
        "folders of mmfewshot": folders("mini_imagenet", SIZE, "mini_imagenet/images"),
        "files of Ravi's lists": lambda root: write.write_flat(root, EACH, SIZE),
    },
    TieredImageNet: {
        "encoded pickles": lambda root: write.write_tiered(root, EACH, SIZE),
        "npz": lambda root: write.write_tiered(root, EACH, SIZE, arrays=True),
        "folders": folders("tiered_imagenet", SIZE, "tiered-imagenet/{split}"),
    },
    CUB: {
        "official folder": folders("cub", SIZE, "CUB_200_2011/images"),
        "file lists": lambda root: write.write_file_lists(root, EACH, SIZE),
    },
}
CASES = [(kind, form) for kind, forms in FORMS.items() for form in forms]


def module(kind, root, **settings):
    sized = {} if kind in (CIFARFS, FC100) else {"image_size": SIZE}
    return kind(root=str(root), queries=1, **sized, **settings)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function that returns the folder of a data set in a form, written once."""
    made = {}

    def write_form(kind, form):
        if (kind, form) not in made:
            made[kind, form] = tmp_path_factory.mktemp("form")
            FORMS[kind][form](made[kind, form])
        return made[kind, form]

    return write_form


@pytest.mark.parametrize(("kind", "form"), CASES, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.sample(4)
def test_form(kind, form, written):
    if "parquet" in form:
        pytest.importorskip("pyarrow")
    data = module(kind, written(kind, form))
    for split, count in zip(SPLITS, COUNTS[data.data_set], strict=True):
        if kind is TieredImageNet and split == "train":
            continue  # the many classes of the training split show nothing that the others do not
        store, wanted = (
            data.load(split),
            write.images_of(data.data_set, split, EACH, 32 if kind in (CIFARFS, FC100) else SIZE),
        )
        assert store.class_sizes.tolist() == [EACH] * count
        if kind is TieredImageNet and form != "folders":  # whose pickles only number the classes
            assert list(store.class_names) == [f"{split}/{number:03}" for number in range(count)]
        else:
            assert list(store.class_names) == sorted(wanted)
        images = np.stack([image for name in sorted(wanted) for image in wanted[name].values()])
        assert store.take(torch.arange(EACH * count)).dtype == torch.uint8
        assert np.array_equal(store.take(torch.arange(EACH * count)).numpy(), images.transpose(0, 3, 1, 2))


def test_published_counts():
    for data_set, counts in COUNTS.items():
        lists = published_classes(data_set)
        assert tuple(len(set(lists[split])) for split in SPLITS) == counts
        assert len({name for split in SPLITS for name in lists[split]}) == sum(counts)


def test_names_of_files_travel_along(written):
    store = module(CIFARFS, written(CIFARFS, "official files")).load("test")
    assert list(store.example_names[:EACH]) == [f"baby_s_{number:06}.png" for number in range(EACH)]


def test_the_result_says_form_and_images_per_class(written):
    data = module(CIFARFS, written(CIFARFS, "official files"))
    data.setup("test")
    assert {"form": "official python files", "images_per_class": "3"}.items() <= data.setting().items()


def test_pickles_without_names_keep_their_own_order(tmp_path):
    pickles("cifar_fs", "CIFAR_FS_{}.pickle")(tmp_path)
    store = module(CIFARFS, tmp_path).load("val")
    assert list(store.class_names) == [f"val/{number:03}" for number in range(16)]


@pytest.mark.parametrize("store", ["memory", "mmap", "encoded"])
def test_files_in_every_store(store, written):
    root = written(MiniImageNet, "files of Ravi's lists")
    here = module(MiniImageNet, root, store=store)
    usual = module(MiniImageNet, root)
    for data in (here, usual):
        data.setup("test")
    assert torch.equal(here.episodes("test").support.x, usual.episodes("test").support.x)


def test_tiered_stays_encoded(written):
    data = module(TieredImageNet, written(TieredImageNet, "encoded pickles"))
    assert not isinstance(data.load("val").items, torch.Tensor)


def test_arrays_are_in_memory_only(written):
    data = module(MiniImageNet, written(MiniImageNet, "npz"), store="encoded")
    with pytest.raises(SettingError, match="store is encoded, expected memory"):
        data.load("val")


def refused(kind, root, split="val", **settings):
    with pytest.raises(UserError) as refusal:
        module(kind, root, **settings).load(split)
    return str(refusal.value)


def test_a_missing_and_a_strange_class_are_named(tmp_path, written):
    root = tmp_path / "data"
    shutil.copytree(written(MiniImageNet, "learn2learn"), root)
    file = root / "mini-imagenet-cache-validation.pkl"
    content = pickle.loads(file.read_bytes())
    content["class_dict"]["n00000000"] = content["class_dict"].pop("n01855672")
    file.write_bytes(pickle.dumps(content))
    message = refused(MiniImageNet, root)
    assert str(file) in message
    assert "16 classes in the val split, expected 16: without n01855672 and with n00000000" in message


def test_a_wrong_number_of_classes_is_named(tmp_path):
    content = {"data": np.zeros((6, 32, 32, 3), np.uint8), "labels": [0, 0, 1, 1, 2, 2]}
    (tmp_path / "CIFAR_FS_val.pickle").write_bytes(pickle.dumps(content))
    assert "3 classes in the val split, expected 16" in refused(CIFARFS, tmp_path)


def test_a_missing_folder_of_a_class_is_named(tmp_path, written):
    shutil.copytree(written(CUB, "official folder"), tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "CUB_200_2011" / "images" / "002.Laysan_Albatross")
    assert "49 classes in the val split, expected 50: without 002.Laysan_Albatross" in refused(CUB, tmp_path / "data")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"labels": [0]}, "expected a dict with 'data' or 'images'"),
        ([1, 2], "a list, expected a dict"),
        ({"data": np.zeros((2, 32, 32, 3), np.float32), "labels": [0, 1]}, "of float32, expected"),
        ({"data": np.zeros((2, 3, 32, 32), np.uint8), "labels": [0, 1]}, r"images \[2, 3, 32, 32\]"),
        ({"data": np.zeros((2, 32, 32, 3), np.uint8), "labels": [0]}, "2 images, but 1 labels"),
        ({"data": np.zeros((2, 32, 32, 3), np.uint8), "labels": [0.5, 1]}, "of float64, expected integers"),
        ({"data": np.zeros((2, 84, 84, 3), np.uint8), "labels": [0, 1]}, "84x84 pixels, expected 32x32"),
        ({"data": [np.zeros((2, 2, 3)), np.zeros((3, 2, 3))], "labels": [0, 1]}, "should be one array"),
    ],
)
def test_other_content_is_said(content, reason, tmp_path):
    (tmp_path / "CIFAR_FS_val.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=rf"CIFAR_FS_val\.pickle \(pickles of data and labels\).*{reason}"):
        module(CIFARFS, tmp_path).load("val")


def test_a_damaged_archive_is_said(tmp_path):
    archive(tmp_path)
    file = tmp_path / "cifar-100-python.tar.gz"
    file.write_bytes(file.read_bytes()[:5000])
    assert "not a sound archive" in refused(CIFARFS, tmp_path)


def test_a_damaged_image_is_named(tmp_path, written):
    shutil.copytree(written(CUB, "official folder"), tmp_path / "data", ignore=shutil.ignore_patterns("metalit-cache"))
    name = "002.Laysan_Albatross/Laysan_Albatross_s_000001.png"
    (tmp_path / "data" / "CUB_200_2011" / "images" / name).write_bytes(b"no image")
    assert name in refused(CUB, tmp_path / "data")


@pytest.mark.parametrize("path", ["/etc/hostname", "../../../etc/passwd", "x/../../secret/a.jpg", "lonely.jpg"])
def test_lists_do_not_lead_out_of_the_folder(path, tmp_path, written):
    root = tmp_path / "data"
    shutil.copytree(written(CUB, "file lists"), root)
    (tmp_path / "passwd").touch()
    content = json.loads((root / "val.json").read_text())
    (root / "val.json").write_text(json.dumps({**content, "image_names": [*content["image_names"], path]}))
    assert "of the list is in none of" in refused(CUB, root)


def test_lists_may_have_been_written_on_windows(tmp_path, written):
    root = tmp_path / "data"
    shutil.copytree(written(CUB, "file lists"), root)
    expected = module(CUB, root).load("val")
    content = json.loads((root / "val.json").read_text())
    names = ["C:" + name.replace("/", "\\") for name in content["image_names"]]
    (root / "val.json").write_text(json.dumps({**content, "image_names": names}))
    assert module(CUB, root).load("val").example_names == expected.example_names


def test_a_second_run_decodes_nothing(written, monkeypatch):
    root = written(CUB, "official folder")
    first = module(CUB, root).load("val")
    monkeypatch.setattr("metalit.data.images.building.decode", None)
    assert torch.equal(module(CUB, root).load("val").items, first.items)


@pytest.mark.parametrize(
    ("kind", "address"), [(MiniImageNet, "zenodo.org/records/7978538"), (TieredImageNet, "few-shot-ssl-public")]
)
def test_what_cannot_be_fetched_is_explained(kind, address, tmp_path):
    message = refused(kind, tmp_path)
    assert message.startswith(f"root is {tmp_path}, expected a folder with {kind.__name__}: get ")
    assert address in message


@pytest.mark.parametrize("kind", [CIFARFS, CUB])
def test_what_can_be_fetched_is(kind, tmp_path, monkeypatch, written):
    asked = []

    def fetch(url, path, md5, root):
        asked.append((url, md5))
        if kind is CIFARFS:
            archive(path.parent)
        else:
            with tarfile.open(path, "w:gz") as tar:
                tar.add(written(CUB, "official folder") / "CUB_200_2011", "CUB_200_2011")

    monkeypatch.setattr(f"metalit.data.benchmarks.{'cub' if kind is CUB else 'cifar100'}.download", fetch)
    assert len(module(kind, tmp_path).load("val").class_names) == (50 if kind is CUB else 16)
    assert len(module(kind, tmp_path).load("test").class_names) == (50 if kind is CUB else 20)
    addresses = {
        CIFARFS: ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
        CUB: (
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "97eceeb196236b17998738112f37df78",
        ),
    }
    assert asked == [addresses[kind]]


def test_a_forged_shape_in_an_npz_file_is_one_message(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UserError, match=r"a\.npz is no sound npz file of arrays"):
        read_npz(tmp_path / "a.npz")
