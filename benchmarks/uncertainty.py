"""How good predictions are as distributions: likelihood, spread where there are no data, and more with more data.

    python benchmarks/uncertainty.py RUN [RUN ...] --steps 1 10 --figure samples.png

Each RUN is the folder of a finished run on sinusoids. Printed are, over 1000 fixed test tasks of 10 support points:

1. squared error and negative log-likelihood (NLL) per point. A method that predicts points is given a Gaussian whose
   variance is fitted to validation tasks. So is, beside its own noise, any method of several samples. Likelihoods are
   compared with those of the first RUN task by task.
2. the spread of predictions at x < 0 against that at x > 0, where all support points have x > 0.
3. with --contexts, the NLL with 1, 2, 5, 10 and 20 support points.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import yaml
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from metalit.algorithms import (
    PLATIPUS,
    AttentiveNeuralProcess,
    BayesianMAML,
    ConditionalNeuralProcess,
    DeepKernelTransfer,
    MetaLearner,
)
from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.probabilistic import NeuralProcess, ParticleMetaLearner
from metalit.algorithms.probabilistic.neural_process import whole_context
from metalit.data import Sinusoid
from metalit.episode import Episode, Labelled
from metalit.functional.predictive import fitted_gaussian_nll, gaussian_nll, gaussian_spread
from metalit.metrics import summarise
from metalit.networks import MLP, AttentiveProcess, ConditionalProcess
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params

NOISES = torch.linspace(-5, 2, 141)  # log standard deviations that are tried
CONTEXTS = (1, 2, 5, 10, 20)
AT_ONCE = 50
WITHOUT_STEPS = NeuralProcess | DeepKernelTransfer  # predict Gaussians and take no inner steps


def load(folder: Path) -> MetaLearner:
    """Return the learner of a run folder, with its best weights."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(MetaLearner, "model")
    learner: MetaLearner = parser.instantiate(parser.parse_object({"model": config["model"]})).model
    state = torch.load(folder / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    learner.load_state_dict(state["state_dict"])
    return learner.eval()


@torch.no_grad()
def gaussians(learner: MetaLearner, episode: Episode, steps: int) -> tuple[Tensor, Tensor]:
    """Return means and log standard deviations at the query inputs after so many steps, ``[B, M, Q, 1]`` each.

    The standard deviation of a method without any notion of it is 1.
    """

    def task(meta: Params, support: Labelled, query: Labelled) -> Outcome:
        if isinstance(learner, DeepKernelTransfer):
            means, log_std = learner.gaussians_of_inputs(meta, learner.learn(meta, support, 0), query.x)
        elif isinstance(learner, NeuralProcess):
            context = learner.encode(meta, whole_context(support))
            means, log_std = learner.gaussians_at(meta, context, query.x)
        else:
            assert isinstance(learner, GradientBasedMetaLearner)
            means = learner.outputs(meta, learner.trajectory(meta, support, steps)[-1], query.x)
            means = means if isinstance(learner, ParticleMetaLearner) else means.unsqueeze(0)
            log_std = meta.get("log_noise", torch.zeros(())).expand(means.shape)
        return Outcome(means.sum(), means, measured={"log_std": log_std})

    parts = []
    for first in range(0, len(episode.query.y), AT_ONCE):
        part = tree_map(lambda leaf, first=first: leaf[first : first + AT_ONCE], episode)
        outcome = learner.engine.map(task, *learner.meta(), learner.keys(part), part)
        parts.append((outcome.predictions, outcome.measured["log_std"]))
    means, log_std = zip(*parts, strict=True)
    return torch.cat(means), torch.cat(log_std)


def squared_errors(means: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each task's mean prediction, ``[B]``."""
    return (means.mean(dim=1) - targets).square().mean(dim=(1, 2))


def likelihoods(means: Tensor, log_std: Tensor, targets: Tensor) -> Tensor:
    """Return each task's negative log-likelihood per point, ``[B]``."""
    return vmap(gaussian_nll)(means, log_std, targets)


def fitted_likelihoods(means: Tensor, targets: Tensor, others: Tensor, other_targets: Tensor) -> Tensor:
    """Return the same with the one standard deviation that is best for other tasks."""
    if means.shape[1] == 1:
        return fitted_gaussian_nll(squared_errors(means, targets), squared_errors(others, other_targets))
    fits = torch.stack([likelihoods(others, noise.expand(others.shape), other_targets).mean() for noise in NOISES])
    return likelihoods(means, NOISES[fits.argmin()].expand(means.shape), targets)


def written(values: Tensor, sign: Literal["+", "-"] = "-") -> str:
    """Return mean and 95 % interval; with ``+``, the sign of a positive mean too."""
    summary = summarise(values)
    return f"{summary.mean:{sign}.4f} ± {summary.ci95:.4f}"


def likelihood_table(learners: dict[str, MetaLearner], steps: Sequence[int], tasks: int, others: int) -> str:
    """Return a Markdown table of errors and likelihoods."""
    data = Sinusoid(shots=10, queries=100)
    test, val = data.episodes("test", 0, tasks), data.episodes("val", 0, others)
    head = ["method", "steps", "mse", "NLL", "NLL, noise fitted on validation tasks"]
    reference = next(iter(learners))
    rows = [[*head, f"NLL against {reference}, task by task"], ["---"] * 6]
    references: dict[int, Tensor] = {}  # by step
    for name, learner in learners.items():
        for step in [0] if isinstance(learner, WITHOUT_STEPS) else steps:
            means, log_std = gaussians(learner, test, step)
            found = []
            if isinstance(learner, WITHOUT_STEPS | ParticleMetaLearner):
                found.append(likelihoods(means, log_std, test.query.y))
            if not isinstance(learner, WITHOUT_STEPS):
                other_means, _ = gaussians(learner, val, step)
                found.append(fitted_likelihoods(means, test.query.y, other_means, val.query.y))
            cells = [written(values) for values in found]
            cells = [*cells, "–"] if isinstance(learner, WITHOUT_STEPS) else ["–"] * (2 - len(cells)) + cells
            if name == reference:
                references[step], differences = found[-1], ["–"]
            else:
                of_reference = references.get(step, references[max(references)])
                differences = [written(values - of_reference, "+") for values in found]
            error = written(squared_errors(means, test.query.y))
            rows.append([name, str(step), error, *cells, "; ".join(differences)])
    return markdown(rows)


def one_sided(tasks: int, shots: int = 10, points: int = 100) -> Episode:
    """Return test tasks whose support points all have x > 0, with evenly spaced queries; targets are not used."""
    episode = Sinusoid(shots=shots, queries=100).episodes("test", 0, tasks)
    x, y = (torch.cat([support, query], dim=1) for support, query in zip(episode.support, episode.query, strict=True))
    first = (x[..., 0] < 0).int().argsort(dim=1, stable=True)[:, :shots, None]
    grid = torch.linspace(-5, 5, points)[:, None].expand(tasks, -1, -1)
    support, query = Labelled(x.gather(1, first), y.gather(1, first)), Labelled(grid, torch.zeros_like(grid))
    return Episode(support, query, episode.index)


def spread_ratios(learner: MetaLearner, steps: int, tasks: int) -> tuple[Tensor, Tensor]:
    """Return each task's spread at x < 0 over that at x > 0, ``[tasks]``: of the prediction, and of samples alone."""
    episode = one_sided(tasks)
    means, log_std = gaussians(learner, episode, steps)
    left = episode.query.x[0, :, 0] < 0
    ratios = []
    for log in (log_std, torch.full_like(log_std, -20.0)):
        spread = vmap(gaussian_spread)(means, log)[..., 0]
        ratios.append(spread[:, left].mean(dim=1) / spread[:, ~left].mean(dim=1))
    return ratios[0], ratios[1]


def context_table(learners: dict[str, MetaLearner], steps: int, tasks: int) -> str:
    """Return a Markdown table of likelihoods over the number of support points."""
    rows = [
        ["NLL, by support points", *map(str, CONTEXTS)],
        ["---"] * (1 + len(CONTEXTS)),
    ]
    (x, y), query, index = Sinusoid(shots=max(CONTEXTS), queries=100).episodes("test", 0, tasks)
    episodes = [Episode(Labelled(x[:, :shots], y[:, :shots]), query, index) for shots in CONTEXTS]
    for name, learner in learners.items():
        if isinstance(learner, WITHOUT_STEPS | ParticleMetaLearner):
            found = [likelihoods(*gaussians(learner, episode, steps), episode.query.y) for episode in episodes]
            rows.append([name, *map(written, found)])
    return markdown(rows)


def picture(learners: dict[str, MetaLearner], steps: int, tasks: int = 3) -> Figure:
    """Draw samples of each learner on tasks of one-sided support."""
    episode = one_sided(tasks)
    figure = Figure(figsize=(4 * tasks, 3 * len(learners)), layout="constrained")
    panels = figure.subplots(len(learners), tasks, squeeze=False, sharex=True, sharey="col")
    for row, (name, learner) in zip(panels, learners.items(), strict=True):
        means, log_std = gaussians(learner, episode, steps)
        spread = vmap(gaussian_spread)(means, log_std)[..., 0]
        for task, axes in enumerate(row):
            x, middle = episode.query.x[task, :, 0], means[task, ..., 0].mean(dim=0)
            axes.fill_between(
                x, middle - 2 * spread[task], middle + 2 * spread[task], color="#0072B2", alpha=0.15, lw=0
            )
            axes.plot(x, means[task, ..., 0].T, color="#0072B2", lw=0.8, alpha=0.6)
            axes.plot(*(part[task, :, 0] for part in episode.support), "^", color="#D55E00", mec="white", ms=8)
            axes.set_title(f"{name}, task {task}", fontsize=10)
    return figure


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def small() -> dict[str, MetaLearner]:
    """Return learners that know nothing, to show that it runs."""
    torch.manual_seed(0)
    learners: list[MetaLearner] = [
        ConditionalNeuralProcess(ConditionalProcess(hidden=8)),
        AttentiveNeuralProcess(AttentiveProcess(hidden=8, heads=2)),
        DeepKernelTransfer(MLP(hidden=(10,), outputs=4)),
        BayesianMAML(MLP(hidden=(10,))),
        PLATIPUS(MLP(hidden=(10,)), initial_std=0.1),
    ]
    return {type(learner).__name__: learner.eval() for learner in learners}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and last the ratio of spreads of the last run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="*", help="folders of runs on sinusoids")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10], help="inner steps; the last for the rest")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks")
    parser.add_argument("--contexts", action="store_true", help="likelihood by number of support points")
    parser.add_argument("--figure", type=Path, help="where to draw samples on tasks of one-sided support")
    parser.add_argument("--quick", action="store_true", help="untrained learners, few tasks")
    options = parser.parse_args(arguments)
    tasks, others = (20, 10) if options.quick else (options.tasks, 600)
    learners = small() if options.quick else {folder.name: load(folder) for folder in options.runs}
    print(likelihood_table(learners, options.steps, tasks, others))
    if options.contexts or options.quick:
        print(context_table(learners, options.steps[-1], tasks))
    if options.figure:
        picture(learners, options.steps[-1]).savefig(options.figure, dpi=120)
    print("spread at x < 0 over that at x > 0, support at x > 0; of samples alone; of the prediction:")
    for name, learner in learners.items():
        if isinstance(learner, WITHOUT_STEPS | ParticleMetaLearner):
            whole, samples = (summarise(ratio) for ratio in spread_ratios(learner, options.steps[-1], tasks))
            low, high = whole.mean - whole.ci95, whole.mean + whole.ci95
            alone = f"{samples.mean:.3f} ± {samples.ci95:.3f}" if samples.ci95 else "–"
            print(f"{name}: {alone}; {whole.mean:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
