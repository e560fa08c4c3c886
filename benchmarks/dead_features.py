"""How many of Baseline's 64 features are still active after a short training, by the rates of its two parts.

    python benchmarks/dead_features.py                             # glyphs: nothing to download
    python benchmarks/dead_features.py --data omniglot --root data

Conv4-64 and the linear layer of all training classes, 200 steps of Adam on 16 classes with 2 images each. A feature is
active if it is above 0 on any of 300 validation images, in evaluation mode. docs/algorithms/baseline.md says why a high
rate of the linear layer lets features die.
"""

import argparse
import logging
import warnings
from collections.abc import Callable, Iterable
from statistics import median

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import nn
from torch.optim import Adam, Optimizer

from metalit.algorithms import Baseline
from metalit.data import ClassificationDataModule, Glyphs, Omniglot
from metalit.functional.examples import to_unit_interval
from metalit.networks import Conv4

RATES = ((0.003, 0.003), (0.001, 0.003), (0.003, 0.001), (0.001, 0.001))  # of the encoder and of the linear layer
FEATURES, IMAGES = 64, 300


def data_module(name: str, root: str, classes: int) -> ClassificationDataModule:
    """Return mini-batches of 16 classes with 2 images each, labelled by the classes of the training split."""
    batches = {"train_labels": "split", "train_ways": 16, "train_shots": 1, "train_queries": 1, "tasks_per_batch": 1}
    if name == "omniglot":
        return Omniglot(root=root, **batches)  # type: ignore[arg-type]
    return Glyphs(classes=classes, eval_classes=20, **batches)  # type: ignore[arg-type]


def optimizer(learner: Callable[[], Baseline], rates: tuple[float, float]) -> Callable[[Iterable[object]], Optimizer]:
    """Return what makes Adam with one rate for the encoder and one for the linear layer."""

    def make(_: Iterable[object]) -> Optimizer:
        parts: tuple[nn.Module, nn.Module] = learner().network, learner().classifier
        return Adam([{"params": part.parameters(), "lr": rate} for part, rate in zip(parts, rates, strict=True)])

    return make


def active_features(data: ClassificationDataModule, rates: tuple[float, float], steps: int, seed: int) -> int:
    """Train and return how many features are above 0 on any validation image."""
    seed_everything(seed, verbose=False)
    data.setup("fit")
    network = Conv4(channels=FEATURES, batch_norm="running")
    learner = Baseline(network, data.train_classes, optimizer=optimizer(lambda: learner, rates))
    Trainer(max_steps=steps, limit_val_batches=0, barebones=True, accelerator="cpu").fit(learner, data)
    images = to_unit_interval(data.stores["val"].take(torch.randperm(len(data.stores["val"].items))[:IMAGES]))
    with torch.no_grad():
        return int((network.eval()(images) > 0).any(dim=0).sum())


def main() -> None:
    """Train with each pair of rates and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=("glyphs", "omniglot"), default="glyphs")
    parser.add_argument("--root", default="data", help="folder of Omniglot")
    parser.add_argument("--steps", type=int, default=200, help="of Adam")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each pair")
    parser.add_argument("--quick", action="store_true", help="few classes and steps: does it run?")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    steps, seeds = (3, 2) if options.quick else (options.steps, options.seeds)
    data = data_module(options.data, options.root, 32 if options.quick else 4112)
    print(f"active of {FEATURES} features after {steps} steps, {seeds} seeds; median (min to max)")
    for rates in RATES:
        found = [active_features(data, rates, steps, seed) for seed in range(seeds)]
        print(f"encoder {rates[0]:g}, linear layer {rates[1]:g}: {median(found):g} ({min(found)} to {max(found)})")


if __name__ == "__main__":
    main()
