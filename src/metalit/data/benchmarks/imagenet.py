"""miniImageNet and tieredImageNet, from any form in which people have them; neither has an official address."""

from collections.abc import Sequence

from metalit.data.benchmarks.arrays import ImagesWithLabels, LabelledPickles, LearnToLearnCaches, Npz
from metalit.data.benchmarks.base import Form, SizedBenchmark
from metalit.data.benchmarks.files import ClassFolders, EncodedPickles, ListedFiles
from metalit.data.stream import SPLITS

ZENODO = "https://zenodo.org/records/7978538"
CATEGORIES = "miniImageNet_category_split"
# Train_phase files of val and test hold other images of the training classes: for them, not for few-shot tests.
OF_GIDARIS = {"train": f"{CATEGORIES}_train_phase_train", "val": f"{CATEGORIES}_val", "test": f"{CATEGORIES}_test"}


class MiniImageNet(SizedBenchmark):
    """miniImageNet in the split of Ravi and Larochelle (2017): 64 training, 16 validation and 20 test classes.

    ``root`` holds learn2learn's ``mini-imagenet-cache-<split>.pkl``, MetaOptNet's ``miniImageNet_category_split_*``
    pickles, ``mini_imagenet_<split>`` as a pickle or npz, a folder per class (``images/n01532829/*.jpg``), or all
    files of Ravi's lists in ``images``. Images that are larger are resized.

    Args:
        **settings: the settings of ``SizedBenchmark``: ``image_size``, ``fit`` and ``store``, and those of
            ``ClassificationDataModule``.

    Raises:
        SettingError: nothing is in ``root``; the message says what to get and where to put it.
        UserError: files are damaged, or their classes are not those of the split.
    """

    data_set = "mini_imagenet"
    folders = ("mini_imagenet", "mini-imagenet", "miniImageNet", "miniimagenet", "MiniImageNet")

    def forms(self) -> Sequence[Form]:
        """Return the forms, the one to prefer first."""
        own = {split: [f"{name}_{split}" for name in ("mini_imagenet", "miniImageNet")] for split in SPLITS}
        pickles = {split: [OF_GIDARIS[split], *own[split]] for split in SPLITS}
        return [
            LearnToLearnCaches(),
            LabelledPickles(
                {split: [f"{n}{end}" for n in pickles[split] for end in (".pickle", ".pkl")] for split in SPLITS}
            ),
            Npz({split: [f"{name}.npz" for name in own[split]] for split in SPLITS}),
            ClassFolders(self.data_set),
            ListedFiles(self.data_set),
        ]

    def advice(self) -> str:
        """Return what to get, from where, and where to put it."""
        files = ", ".join(f"mini-imagenet-cache-{word}.pkl" for word in ("train", "validation", "test"))
        return (
            f"get {files} from {ZENODO} and put them there, or your own copy in another form of "
            "docs/guide/image-benchmarks.md"
        )


class TieredImageNet(SizedBenchmark):
    """tieredImageNet (Ren et al. 2018): 351 training, 97 validation and 160 test classes of 34 super-classes.

    ``root`` holds ``<split>_images_png.pkl`` or ``<split>_images.npz`` with ``<split>_labels.pkl``, or a folder per
    class (``train/n01530575/*.jpg``). Encoded images stay so and are decoded for each episode.

    Args:
        **settings: the settings of ``SizedBenchmark``: ``image_size``, ``fit`` and ``store``, and those of
            ``ClassificationDataModule``.

    Raises:
        SettingError: nothing is in ``root``; the message says what to get and where to put it.
        UserError: files are damaged, or their classes are not those of the split.
    """

    data_set = "tiered_imagenet"
    folders = ("tiered_imagenet", "tiered-imagenet", "tieredImageNet", "tieredimagenet", "TieredImageNet")

    def forms(self) -> Sequence[Form]:
        """Return the forms, the one to prefer first."""
        return [EncodedPickles(), ImagesWithLabels(), ClassFolders(self.data_set)]

    def advice(self) -> str:
        """Return what to get, from where, and where to put it."""
        return (
            "get tiered-imagenet.tar by the link in https://github.com/renmengye/few-shot-ssl-public and unpack "
            "<split>_images_png.pkl and <split>_labels.pkl of each split there, or your own copy in another form of "
            "docs/guide/image-benchmarks.md"
        )
