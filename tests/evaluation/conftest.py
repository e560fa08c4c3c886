"""Two small learners with their episodes: one adapts in steps on a line of numbers, one compares tiny images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from metalit.algorithms import MAML, MetaLearner, PrototypicalNetwork
from metalit.data import ClassificationDataModule, ClassStore, Sinusoid
from metalit.data.stream import Split
from metalit.episode import Episode
from metalit.networks import MLP


class TinyImages(ClassificationDataModule):
    """Classes of 5x5 images: every image is its class's pattern with some noise."""

    def load(self, split: Split) -> ClassStore:
        rng = np.random.default_rng(len(split))
        patterns = rng.integers(0, 2, (6, 1, 1, 5, 5)) * 200
        images = torch.from_numpy(patterns + rng.integers(0, 50, (6, 8, 1, 5, 5))).to(torch.uint8)
        return ClassStore.from_classes({f"{split}{i}": items for i, items in enumerate(images)})


class Loader:
    """Serves ready-made meta-batches; a list would be taken for several loaders."""

    def __init__(self, *batches: Episode) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.batches)


@pytest.fixture
def loader() -> type[Loader]:
    return Loader


@pytest.fixture
def regression() -> tuple[MetaLearner, Sinusoid]:
    torch.manual_seed(0)
    data = Sinusoid(
        shots=5, queries=7, tasks_per_batch=4, episodes_per_epoch=40, val_episodes=6, test_episodes=9,
        eval_tasks_per_batch=4,
    )  # fmt: skip
    return MAML(MLP(1, [8], 1), inner_lr=0.01, inner_steps=3), data


@pytest.fixture
def images() -> tuple[MetaLearner, TinyImages]:
    torch.manual_seed(0)
    data = TinyImages(
        ways=3, shots=2, queries=4, tasks_per_batch=4, episodes_per_epoch=40, val_episodes=6, test_episodes=9,
        eval_tasks_per_batch=4,
    )  # fmt: skip
    return PrototypicalNetwork(nn.Sequential(nn.Flatten(), nn.Linear(25, 8))), data


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    def make(*callbacks: L.Callback, **options: Any) -> L.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "callbacks": list(callbacks),
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "inference_mode": False,
            "log_every_n_steps": 2,
            "logger": False,
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
        }
        return L.Trainer(**defaults | options)

    return make
