"""The base classes of data modules: settings of episodes, loaders, and the gathering of examples on the device."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import lightning as L
import torch
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

from metalit.data.augmentation import AugmentedStream, Drawn, check_inputs
from metalit.data.features import FeaturesDtype, FrozenFeatures
from metalit.data.loader import (
    EvaluationSpans,
    TrainLoader,
    TrainSpans,
    evaluation_loader,
    leave_signals_to_the_main_process,
)
from metalit.data.position import Position
from metalit.data.store import ClassStore
from metalit.data.stream import ClassificationStream, EpisodeStream, Split
from metalit.episode import Episode, Labelled
from metalit.errors import SettingError, at_least, check
from metalit.functional.augmentation import Augmentation, augment
from metalit.functional.examples import to_unit_interval
from metalit.networks.texts.base import check_form, text_encoders

if TYPE_CHECKING:
    from metalit.data.images.picture_form import PictureForm
    from metalit.data.texts.text_form import TextForm

SPLIT_OF_STAGE: dict[RunningStage, Split] = {
    RunningStage.TRAINING: "train",
    RunningStage.SANITY_CHECKING: "val",
    RunningStage.VALIDATING: "val",
    RunningStage.TESTING: "test",
    RunningStage.PREDICTING: "test",
}
SPLITS_OF_FUNCTION: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


FEATURES = "features"  # entry of a checkpoint with the digest of the network


class EpisodeNames(NamedTuple):
    """Names behind the numbers of one episode of classification.

    Attributes:
        classes: the class behind each label.
        support: the name of each support example, or none if the examples have no names.
        query: the name of each query example, or none.
    """

    classes: list[str]
    support: list[str]
    query: list[str]


class EpisodicDataModule(L.LightningDataModule, ABC):
    """Episodes for training, validation and test. A subclass defines the stream of episodes of a split.

    Training reads its stream once: another ``fit`` with the same data module, or a new loader, continues where the last
    one stopped. Checkpoints hold this position, so a resumed run trains on the very next episode.

    Args:
        shots: K, support examples per class (or per task, in regression).
        queries: query examples per class (or per task), in validation and test.
        train_shots: K in training; ``shots`` if not given.
        train_queries: query examples in training; ``queries`` if not given.
        tasks_per_batch: B, tasks in one meta-batch on one device.
        eval_tasks_per_batch: tasks evaluated at once; affects speed and memory only.
        episodes_per_epoch: training episodes in one epoch, over all devices.
        val_episodes: number of fixed validation episodes.
        test_episodes: number of fixed test episodes, at least 600 for a published result.
        seed: seed of the episode streams.
        num_workers: worker processes that prepare episodes; 0 prepares them in the main process.

    Attributes:
        sized: the names of ``sizes``.
        reads_ahead: whether training episodes are small and all of one size, so that many may be computed at once.
        metrics: names of the metrics of a task that are logged and tested, of ``metalit.metrics.task_metrics``: for
            numbers ``mse``, ``rmse``, ``pearson``, ``spearman``; for classes ``accuracy``, ``average_precision``,
            ``delta_auprc``. Empty for mse or accuracy.

    Raises:
        SettingError: a number is out of range.
    """

    sized: tuple[str, ...] = ()
    reads_ahead: bool = False
    metrics: tuple[str, ...] = ()

    def __init__(
        self,
        shots: int = 1,
        queries: int = 15,
        train_shots: int | None = None,
        train_queries: int | None = None,
        tasks_per_batch: int = 4,
        eval_tasks_per_batch: int = 20,
        episodes_per_epoch: int = 2000,
        val_episodes: int = 600,
        test_episodes: int = 1000,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.shots, self.queries = shots, queries
        self.train_shots = shots if train_shots is None else train_shots
        self.train_queries = queries if train_queries is None else train_queries
        self.tasks_per_batch, self.eval_tasks_per_batch = tasks_per_batch, eval_tasks_per_batch
        self.episodes_per_epoch = episodes_per_epoch
        self.val_episodes, self.test_episodes = val_episodes, test_episodes
        self.seed, self.num_workers = seed, num_workers
        at_least(1, shots=shots, queries=queries, train_shots=train_shots, train_queries=train_queries)
        at_least(1, tasks_per_batch=tasks_per_batch, eval_tasks_per_batch=eval_tasks_per_batch)
        at_least(1, episodes_per_epoch=episodes_per_epoch, val_episodes=val_episodes, test_episodes=test_episodes)
        at_least(0, num_workers=num_workers, seed=seed)
        check("seed", seed, seed < 2**64, "below 2^64")  # it is one word of Philox's key
        self.streams: dict[Split, EpisodeStream] = {}
        self.position = Position()

    @abstractmethod
    def make_stream(self, split: Split) -> EpisodeStream:
        """Return the stream of episodes of a split; called once per split."""

    def checked_stream(self, split: Split) -> EpisodeStream:
        """Return ``make_stream(split)``; a ``SettingError`` names the option, e.g. ``data.train_shots``."""
        try:
            return self.make_stream(split)
        except SettingError as error:
            if error.name.startswith("data.") or error.owner is not None:
                raise  # it says itself whose setting it is
            # a stream does not know whether its number of shots came from ``shots`` or ``train_shots``
            own = f"train_{error.name}"
            is_own = split == "train" and own in vars(self) and getattr(self, own) != getattr(self, error.name)
            raise SettingError(f"data.{own if is_own else error.name}", error.value, error.expected) from None

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Return the episode as the learner sees it, given one from the stream; runs on the learner's device."""
        return episode

    def sizes(self) -> dict[str, int]:
        """Return the lengths of inputs and outputs that a network takes from the data, by its names for them.

        The command line and ``metalit.load`` give them to a network whose setting of that name is null. A subclass
        lists the names in ``sized`` too, so that the data are read only for a network that needs them.
        """
        return {}

    def own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions ``[..., outputs]`` of regression in the units in which errors are reported."""
        return values

    def setting(self) -> dict[str, Any]:
        """Return the settings of the episodes to state with a test result."""
        return {
            "data": type(self).__name__,
            "shots": self.shots,
            "queries": self.queries,
            "data_seed": self.seed,
        }

    def episodes(self, split: Split, first: int = 0, count: int = 1) -> Episode:
        """Return episodes ``first .. first+count-1`` of a split as a learner sees them, for notebooks and tests."""
        if split not in self.streams:
            self.streams[split] = self.checked_stream(split)
        return self.finish(self.streams[split](first, count), split)

    def setup(self, stage: str) -> None:
        """Create the streams that a stage needs, once."""
        # A fit starts with a whole epoch, even if the last one stopped within an epoch. Lightning loads a checkpoint
        # after this, whose position then replaces this one.
        if stage == "fit":
            self.position.begin_epoch()
        for split in SPLITS_OF_FUNCTION[stage]:
            if split not in self.streams:
                self.streams[split] = self.checked_stream(split)

    def train_dataloader(self) -> TrainLoader:
        """Return a loader of the endless training stream, divided into epochs."""
        sizes = self.episodes_per_epoch, self.tasks_per_batch
        repeats = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]  # a connector's
        spans = TrainSpans(*sizes, *self._rank_and_world_size(), self.position, repeats)
        return TrainLoader(self.streams["train"], spans, self.reads_ahead, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Episode]:
        """Return a loader of the fixed validation episodes."""
        return self._evaluation_loader("val", self.val_episodes)

    def test_dataloader(self) -> DataLoader[Episode]:
        """Return a loader of the fixed test episodes."""
        return self._evaluation_loader("test", self.test_episodes)

    def predict_dataloader(self) -> DataLoader[Episode]:
        """Return a loader of the fixed test episodes."""
        return self._evaluation_loader("test", self.test_episodes)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream."""
        # here and not only in the loader: a loader that Lightning makes early, or makes again, misses its own state
        return self.position.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position from a checkpoint if training; validating or testing one leaves it unchanged."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            self.position.load_state_dict(state_dict)

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Take over what a checkpoint of a training on these or other data brings, such as a vocabulary; here nothing.

        ``load_state_dict`` is called only if the checkpoint comes from the same class of data.
        """

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return a batch on a device; on a CPU as it is, for there the streams make it."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Episode, dataloader_idx: int) -> Episode:
        """Finish the episode on the learner's device, which it has just reached."""
        assert self.trainer is not None and self.trainer.state.stage is not None
        return self.finish(batch, SPLIT_OF_STAGE[self.trainer.state.stage])

    def _evaluation_loader(self, split: Split, episodes: int) -> DataLoader[Episode]:
        spans = EvaluationSpans(episodes, self.eval_tasks_per_batch, *self._rank_and_world_size())
        return evaluation_loader(self.streams[split], spans, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": leave_signals_to_the_main_process,
            "pin_memory": torch.cuda.is_available(),
            # A loader draws a seed for its workers at each epoch. Drawn from torch's global generator, it would shift
            # all later random numbers, and a resumed run would differ.
            "generator": torch.Generator().manual_seed(self.seed % 2**63),
        }

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class ClassificationDataModule(EpisodicDataModule, ABC):
    """N-way K-shot classification over a class-indexed store. A subclass implements ``load`` only.

    The loader returns row indices. The examples are gathered from the store where it lies: on the accelerator, in which
    case a batch transfers a few integers only, or in host memory.

    Args:
        root: folder that holds the data set's files, or to which they are downloaded; or a file, if it is one table.
        ways: N, classes in an episode, in validation and test.
        train_ways: N in training; ``ways`` if not given.
        train_labels: ``episode`` labels the classes of a training episode 0..N-1, as in evaluation; ``split`` uses
            global class labels, for methods that first train a classifier of all training classes.
        store_on_accelerator: keep the whole store in the accelerator's memory; no effect on a CPU.
        features: a frozen network that embeds images or texts, such as ``networks.Backbone``, ``networks.Pretrained``
            or ``networks.PretrainedText``. Its embeddings of all examples are computed once, kept in
            ``metalit-cache`` in ``root`` or beside it, and served as the examples.
        features_dtype: of the stored embeddings; ``float16`` takes half the space and keeps three digits.
        augmentation: random transformations of the images of training episodes, on the learner's device; every example
            has random numbers of its own, which depend on the seed and the number of its episode alone.
        **episodes: the settings of ``EpisodicDataModule``.
    """

    reads_ahead = True

    def __init__(
        self,
        root: str = "data",
        ways: int = 5,
        train_ways: int | None = None,
        train_labels: Literal["episode", "split"] = "episode",
        store_on_accelerator: bool = True,
        features: nn.Module | None = None,
        features_dtype: FeaturesDtype = "float32",
        augmentation: Augmentation | None = None,
        **episodes: Any,
    ) -> None:
        super().__init__(**episodes)
        self.root = Path(root).expanduser()
        self.ways = ways
        self.train_ways = ways if train_ways is None else train_ways
        at_least(2, ways=ways, train_ways=self.train_ways)
        self.train_labels = train_labels
        self.store_on_accelerator = store_on_accelerator
        self.features = None if features is None else FrozenFeatures(features, features_dtype)
        if features is not None and augmentation is not None:
            expected = "none with data.features, which are computed once from the images as they are: drop one of them"
            raise SettingError("data.augmentation", type(augmentation).__name__, expected)
        self.augmentation = augmentation
        self.stores: dict[Split, ClassStore] = {}

    @abstractmethod
    def load(self, split: Split) -> ClassStore:
        """Return all examples of a split, sorted by class; splits must not share a class."""

    def example_form(self) -> "PictureForm | TextForm | None":
        """Return how a picture or text of the user's own becomes an item of this data set; None if it is not known."""
        return None

    @property
    def train_classes(self) -> int:
        """Number of classes in the training split; known once its stream exists."""
        return len(self.stores["train"].class_sizes)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream, and the digest of the network of ``features``."""
        return {**super().state_dict(), **({} if self.features is None else {FEATURES: self.features.digest})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position if training; refuse another network of ``features`` than that of the training."""
        self.check_features(state_dict)
        super().load_state_dict({name: value for name, value in state_dict.items() if name != FEATURES})

    def check_features(self, state_dict: Mapping[str, Any]) -> None:
        """Refuse another network of ``features`` than that of the training, by a checkpoint's state of the data.

        Raises:
            UserError: it is another one.
        """
        if self.features is not None and FEATURES in state_dict:
            self.features.check_is(state_dict[FEATURES])

    def make_stream(self, split: Split) -> ClassificationStream | AugmentedStream:
        """Load the store of a split and return the stream of its episodes, with the numbers of an augmentation."""
        self.stores[split] = store = self.embedded(self.load(split), split)
        train = split == "train"
        stream = ClassificationStream(
            store.class_sizes,
            split=split,
            seed=self.seed,
            ways=self.train_ways if train else self.ways,
            shots=self.train_shots if train else self.shots,
            queries=self.train_queries if train else self.queries,
            global_labels=train and self.train_labels == "split",
        )
        if self.augmentation is None or not train:
            return stream
        check_inputs(self.augmentation, store.take(torch.zeros(1, dtype=torch.int64)))
        return AugmentedStream(stream)

    def embedded(self, store: ClassStore, split: Split) -> ClassStore:
        """Return the store that episodes are made of: with ``features``, that of the embeddings ``[examples, D]``.

        Raises:
            SettingError: texts are not of the tokenizer that ``features`` needs.
        """
        if self.features is None:
            return store
        if text_encoders(self.features.network):
            check_form(self.features.network, self.example_form())
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        # beside a data set that is one file
        folder = self.root.parent if self.root.is_file() else self.root
        return self.features.store(store, split, folder / "metalit-cache", device)

    def embed(self, examples: Any) -> Any:
        """Return examples as a learner of these data sees them.

        Args:
            examples: images ``[n, channels, height, width]``, uint8 or in [0, 1]; or texts, ``Tokens`` ``[n, T]``.

        Returns:
            Embeddings ``[n, D]`` with ``features``, as they stand in the store; otherwise images in [0, 1], or texts.

        Raises:
            UserError: the network of ``features`` does not take such examples.
        """
        if self.features is None:
            return to_unit_interval(examples)
        return self.features.embed(examples).to(torch.get_default_dtype())

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Replace row indices by examples; uint8 images become floats in [0, 1], augmented in training."""
        device = episode.index.device
        # moved at the first episode, since only then the learner's device is known
        if self.store_on_accelerator and self.stores[split].device != device:
            self.stores[split] = self.stores[split].to(device)
        store = self.stores[split]

        def finished(part: Labelled, x: Any) -> Labelled:
            # images travel as uint8 and become floats on the device: a quarter of the bytes of float32
            x = tree_map(lambda leaf: leaf.to(device, non_blocking=True), x)
            x = to_unit_interval(x) if self.features is None else x.to(torch.get_default_dtype())
            if self.augmentation is not None and isinstance(part.x, Drawn):
                x = augment(x.flatten(0, 1), part.x.numbers.flatten(0, 1), self.augmentation).reshape(x.shape)
            return part._replace(x=x)

        both = episode.support, episode.query
        rows = [part.x.rows if isinstance(part.x, Drawn) else part.x for part in both]
        support, query = map(finished, both, store.parts(*rows))
        return Episode(support, query, episode.index)

    def names(self, split: Split, index: int) -> EpisodeNames:
        """Return the names of the classes and examples of an evaluation episode, given its number in the stream."""
        if split not in self.streams:
            self.streams[split] = self.checked_stream(split)
        stream, store = self.streams[split], self.stores[split]
        assert isinstance(stream, ClassificationStream)
        # recomputed: episode i is a function of (seed, split, i), and before ``finish`` it holds rows of the store
        episode = stream(index, 1)
        support, query = (
            part.x[0].tolist() if store.example_names else [] for part in (episode.support, episode.query)
        )
        return EpisodeNames(
            [store.class_names[number] for number in stream.classes(index).tolist()],
            [store.example_names[row] for row in support],
            [store.example_names[row] for row in query],
        )

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: ways, augmentation, base class and features."""
        augmentation = {} if self.augmentation is None else {"augmentation": repr(self.augmentation)}
        features = {} if self.features is None else self.features.setting()
        return {"ways": self.ways, **super().setting(), **augmentation, **features}
