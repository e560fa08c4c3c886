"""The data module base: settings of the episodes, loaders, and the gather of examples on the device."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

from metalit.data.loader import (
    EvaluationSpans,
    Position,
    TrainLoader,
    TrainSpans,
    evaluation_loader,
    leave_signals_to_the_main_process,
)
from metalit.data.store import ClassStore
from metalit.data.stream import ClassificationStream, EpisodeStream, Split
from metalit.episode import Episode, Labelled
from metalit.errors import SettingError, at_least, check
from metalit.functional.examples import to_unit_interval

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


class EpisodicDataModule(L.LightningDataModule, ABC):
    """Episodes for training, validation and test. A subclass says what one stream of episodes is.

    Training goes through its stream once: another ``fit`` with the same data module, or another loader, goes on where
    the last one stopped. A checkpoint holds that place, so a resumed training sees the very next episode.

    Args:
        shots: K, support examples per class (or per task, in regression).
        queries: query examples per class (or per task), in validation and test.
        train_shots: K in training; ``shots`` if not given.
        train_queries: query examples in training; ``queries`` if not given.
        tasks_per_batch: B, tasks in one meta-batch on one device.
        eval_tasks_per_batch: tasks evaluated at once; changes speed and memory only.
        episodes_per_epoch: training episodes in one epoch, over all devices.
        val_episodes: how many fixed episodes validation uses.
        test_episodes: how many fixed episodes the test uses, at least 600 for a figure to publish.
        seed: seed of the episode streams.
        num_workers: processes that prepare episodes; 0 does it in the main process.

    Raises:
        ValueError: a count below its minimum.
    """

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
        check("seed", seed, seed < 2**64, "below 2^64")
        self.streams: dict[Split, EpisodeStream] = {}
        self.position = Position()

    @abstractmethod
    def make_stream(self, split: Split) -> EpisodeStream:
        """Return the stream of episodes of one split; called once per split."""

    def checked_stream(self, split: Split) -> EpisodeStream:
        """Return ``make_stream(split)``; of a setting that it refuses, say which option of the data that is."""
        try:
            return self.make_stream(split)
        except SettingError as error:
            own = f"train_{error.name}"
            is_own = split == "train" and getattr(self, own, None) != getattr(self, error.name, None)
            raise SettingError(f"data.{own if is_own else error.name}", error.value, error.expected) from None

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Turn what the stream gave into what the learner sees; runs on the learner's device."""
        return episode

    def setting(self) -> dict[str, Any]:
        """Return what a reader of a test result must know about its episodes."""
        return {
            "data": type(self).__name__,
            "shots": self.shots,
            "queries": self.queries,
            "data_seed": self.seed,
        }

    def episodes(self, split: Split, first: int = 0, count: int = 1) -> Episode:
        """Return episodes ``first .. first+count-1`` of a split, ready for a learner (for notebooks and tests)."""
        if split not in self.streams:
            self.streams[split] = self.checked_stream(split)
        return self.finish(self.streams[split](first, count), split)

    def setup(self, stage: str) -> None:
        """Make the streams that a stage needs, once."""
        if stage == "fit":  # begins an epoch, unless a checkpoint that is loaded next says otherwise
            self.position.begin_epoch()
        for split in SPLITS_OF_FUNCTION[stage]:
            if split not in self.streams:
                self.streams[split] = self.checked_stream(split)

    def train_dataloader(self) -> TrainLoader:
        """Return the endless training stream, cut into epochs."""
        sizes = self.episodes_per_epoch, self.tasks_per_batch
        repeats = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]  # a connector's
        spans = TrainSpans(*sizes, *self._rank_and_world_size(), self.position, repeats)
        return TrainLoader(self.streams["train"], spans, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Episode]:
        """Return the fixed validation episodes."""
        return self._evaluation_loader("val", self.val_episodes)

    def test_dataloader(self) -> DataLoader[Episode]:
        """Return the fixed test episodes."""
        return self._evaluation_loader("test", self.test_episodes)

    def predict_dataloader(self) -> DataLoader[Episode]:
        """Return the fixed test episodes."""
        return self._evaluation_loader("test", self.test_episodes)

    def state_dict(self) -> dict[str, int | None]:
        """Return where training stands in its stream."""
        return self.position.state_dict()

    def load_state_dict(self, state_dict: dict[str, int | None]) -> None:
        """Go on where the training of a checkpoint stood; a test of it moves nothing."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            self.position.load_state_dict(state_dict)

    def on_after_batch_transfer(self, batch: Episode, dataloader_idx: int) -> Episode:
        """Finish the episode on the device it has just reached."""
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
            # a loader draws a seed for its workers: from torch's generator, it would shift all that is drawn after it
            "generator": torch.Generator().manual_seed(self.seed % 2**63),
        }

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class ClassificationDataModule(EpisodicDataModule, ABC):
    """N-way K-shot classification over a class-indexed store. A data set writes ``load`` alone.

    The loader hands out row numbers; the examples themselves are gathered from the store where it lies: on the
    accelerator (a batch that travels is then a few integers) or in host memory.

    Args:
        root: folder in which the data set's files are, or are to be put.
        ways: N, classes in an episode, in validation and test.
        train_ways: N in training; ``ways`` if not given.
        train_labels: ``episode`` labels a training episode's classes 0..N-1, as in evaluation; ``split`` by their
            number among all classes of the training split, for methods that first learn to tell all of them apart.
        store_on_accelerator: keep the whole store in the accelerator's memory; has no effect on a CPU.
        **episodes: the settings of ``EpisodicDataModule``.
    """

    def __init__(
        self,
        root: str = "data",
        ways: int = 5,
        train_ways: int | None = None,
        train_labels: Literal["episode", "split"] = "episode",
        store_on_accelerator: bool = True,
        **episodes: Any,
    ) -> None:
        super().__init__(**episodes)
        self.root = Path(root).expanduser()
        self.ways = ways
        self.train_ways = ways if train_ways is None else train_ways
        at_least(2, ways=ways, train_ways=self.train_ways)
        self.train_labels = train_labels
        self.store_on_accelerator = store_on_accelerator
        self.stores: dict[Split, ClassStore] = {}

    @abstractmethod
    def load(self, split: Split) -> ClassStore:
        """Return all examples of a split, class after class; splits share no class."""

    @property
    def train_classes(self) -> int:
        """How many classes the training split has; known once its stream is made."""
        return len(self.stores["train"].class_sizes)

    def make_stream(self, split: Split) -> ClassificationStream:
        """Load the split's store and return the stream of its episodes."""
        self.stores[split] = store = self.load(split)
        train = split == "train"
        return ClassificationStream(
            store.class_sizes,
            split=split,
            seed=self.seed,
            ways=self.train_ways if train else self.ways,
            shots=self.train_shots if train else self.shots,
            queries=self.train_queries if train else self.queries,
            global_labels=train and self.train_labels == "split",
        )

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Replace row numbers by examples, images as floats in [0, 1]."""
        device = episode.support.x.device
        if self.store_on_accelerator and self.stores[split].device != device:
            self.stores[split] = self.stores[split].to(device)
        store = self.stores[split]

        def gather(part: Labelled) -> Labelled:
            x = tree_map(lambda leaf: leaf.to(device, non_blocking=True), store.take(part.x))
            return Labelled(to_unit_interval(x), part.y)

        return Episode(gather(episode.support), gather(episode.query), episode.index)

    def setting(self) -> dict[str, Any]:
        """Return what a reader of a test result must know about its episodes."""
        return {"ways": self.ways, **super().setting()}
