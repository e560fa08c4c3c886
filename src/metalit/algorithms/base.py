"""The base class of every meta-learner: the hooks Lightning calls, and the few methods a family implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, Literal, Self

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from metalit.algorithms.optimizers import checked_optimizers
from metalit.algorithms.predictor import Predictor
from metalit.algorithms.pretrained import ALGORITHM, check_algorithm, load_network
from metalit.engine import Engine, Task, with_gradient
from metalit.engine.finite import Batch, has_finite_gradient, stop_if_not_finite
from metalit.episode import Episode, Labelled
from metalit.errors import UserError
from metalit.metrics.episode_metrics import episode_metrics, summarise
from metalit.metrics.episode_values import EpisodeValues, Evaluation
from metalit.networks.normalisation import batch_norm_mode, batch_norms
from metalit.objectives import Measure, Objective, QueryLoss, measure_nothing
from metalit.outcome import Outcome
from metalit.private import skips_backward
from metalit.ranks import mean_over_ranks, refuse_shared_tasks
from metalit.tasks.parameters import Params
from metalit.tasks.task_context import TaskContext

# attributes used by training alone, which ``evaluation_copy`` leaves out
OF_TRAINING = ("optimizer", "lr_scheduler", "evaluation", "last_evaluation", "_batches", "_compiled")


class MetaLearner(L.LightningModule, ABC):
    """A pure function of (meta-parameters, episode), trained by Lightning's automatic optimisation.

    A family implements ``task``, ``evaluate_task``, ``learn`` and ``predict`` for ONE task. The engine maps the first
    two over a meta-batch; ``adapt`` builds a predictor from the other two.

    Args:
        network: any ``nn.Module`` from inputs ``[n, ...]`` to outputs ``[n, ...]``.
        objective: turns the outcomes of all tasks into the meta-loss; default: the mean query loss.
        optimizer: builds the meta-optimiser; default: Adam with learning rate 1e-3.
        lr_scheduler: builds the learning-rate schedule of the meta-optimiser; default: a constant rate.
        lr_scheduler_interval: whether the schedule advances per epoch or per step.
        engine: how the tasks of a meta-batch are computed.
        pretrained: a checkpoint, of any method, whose ``network`` gives the initial weights.
        frozen_batch_norm: shell-style patterns of batch norms of the network, e.g. ``["*"]`` for all. They normalise by
            their running statistics in training too and never update them; scale and shift are still trained.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        engine: Engine = Engine(),  # noqa: B008  # frozen
        pretrained: str | None = None,
        frozen_batch_norm: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = QueryLoss() if objective is None else objective
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.lr_scheduler_interval = lr_scheduler_interval
        self.engine = engine
        self.pretrained, self._resumed = pretrained, False
        self.frozen_batch_norm = tuple(frozen_batch_norm)
        # in evaluation mode a batch norm normalises by its running statistics and does not update them
        for module in batch_norms(network, self.frozen_batch_norm).values():
            module.eval()
        self.evaluation = EpisodeValues()
        self.last_evaluation: Evaluation | None = None
        # the seed of all randomness within tasks; a buffer, so that a resumed run draws the same dropout masks
        self.task_seed: Tensor
        self.register_buffer("task_seed", torch.randint(2**31, ()))
        self._batches_are_divided = False  # whether the ranks are known to train on different tasks
        self._batches: list[Batch] = []  # batches accumulated for the next optimiser step
        # by settled engine, which changes when the network gains a hook or layer
        self._compiled: dict[Engine, Callable[..., tuple[Params, Tensor, Outcome]]] = {}

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **options: Any) -> Self:
        """Call Lightning's method, which needs the network and all other arguments; prefer ``metalit.load``.

        Raises:
            TypeError: arguments of the class are missing.
        """
        try:
            return super().load_from_checkpoint(*args, **options)
        except TypeError as error:
            raise TypeError(
                f"{error}; a checkpoint holds weights and no settings: metalit.load(run_folder) returns the learner of "
                "a run and its data"
            ) from error

    @abstractmethod
    def task(
        self,
        meta: Params,
        support: Labelled,
        query: Labelled,
        ways: int,
        measure: Measure = measure_nothing,
    ) -> Outcome:
        """Learn one task from its support set and return the loss and predictions on its query set.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: ``x [S, ...]``, ``y [S, ...]``.
            query: ``x [Q, ...]``, ``y [Q, ...]``.
            ways: N, or 0 in regression. Passed as an int because under ``vmap`` it cannot be read off the labels.
            measure: what the objective measures on a task learned by gradient descent.
        """

    @abstractmethod
    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return one task's outcome at T stages of adaptation, the final one last: loss ``[T]``.

        Entries ``[T]`` of ``measured`` are reported as metrics: a mean over the episodes with a confidence interval.
        """

    @abstractmethod
    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the state learned from one task's support set, a pytree of tensors: all that ``predict`` needs.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: ``x [S, ...]``, ``y [S, ...]``.
            ways: N; 0 in regression.
        """

    @abstractmethod
    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's predictions for inputs ``[n, ...]``: logits ``[n, N]``, or values ``[n, outputs]``.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            state: the return value of ``learn``.
            x: inputs ``[n, ...]``. The prediction for one should not depend on the others.
        """

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Raise a ``UserError`` for a task that the method cannot learn; takes the arguments of ``learn``."""

    def adapt(self, support: Labelled) -> Predictor[Self]:
        """Learn ONE task, given without the axis B, in evaluation mode and return its predictor.

        The predictor is a value: it owns a copy of the weights, so further training does not change it. The learner
        stays in its mode.

        Args:
            support: ``x [S, ...]``, images in [0, 1] or uint8, and ``y``: labels ``[S]``, any integers, or values
                ``[S, outputs]``.

        Raises:
            UserError: inputs and labels do not fit together, or the method cannot learn such a task.
        """
        return Predictor(self.evaluation_copy(), support)

    def evaluation_copy(self) -> Self:
        """Return a copy in evaluation mode that shares no memory with this learner and cannot be trained."""
        left_out = [getattr(self, name) for name in OF_TRAINING]
        # a network may store activations as attributes: deepcopy refuses tensors that belong to a graph or to vmap
        for module in self.modules():
            kept = [value for value in tree_leaves(vars(module)) if isinstance(value, Tensor)]
            left_out += [value for value in kept if value.grad_fn is not None or is_functorch_wrapped_tensor(value)]
        # deepcopy takes an object listed in its memo as already copied, here as None
        copy = deepcopy(self, {id(part): None for part in left_out}).eval()
        copy.engine = self.settled_engine()
        return copy

    def ways_of(self, support: Labelled) -> int:
        """Return N, the number of ways of a batch of tasks: the largest support label plus one; 0 in regression."""
        return count_ways(support)

    def transductive(self) -> bool:
        """Whether the prediction for a query depends on the other queries through batch statistics."""
        return batch_norm_mode(*self.predicting()) in ("batch", "mixed")

    def predicting(self) -> Sequence[nn.Module]:
        """Return the modules that take part in predictions."""
        return [self.network]

    def setting(self) -> dict[str, Any]:
        """Return the settings of the method that must be reported with a result."""
        return {
            "algorithm": type(self).__name__,
            "batch_norm": batch_norm_mode(*self.predicting()),
            "transductive": self.transductive(),
            **({"frozen_batch_norm": list(self.frozen_batch_norm)} if self.frozen_batch_norm else {}),
        }

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules except frozen batch norms, which stay in evaluation mode."""
        super().train(mode)
        for module in batch_norms(self.network, self.frozen_batch_norm).values():
            module.eval()
        return self

    def forward(self, episode: Episode) -> Outcome:
        """Return the outcome of every task; differentiable, and free of side effects."""
        return self._outcome(self.training_task(episode.support, self.objective), episode)

    def meta_loss(self, episode: Episode) -> Tensor:
        """Return the scalar that training minimises, in the current epoch."""
        objective = self.objective.at_epoch(self.current_epoch)
        task = self.training_task(episode.support, objective, self.current_epoch)
        return objective.total(self._outcome(task, episode))

    def training_task(self, support: Labelled, objective: Objective, epoch: int | None = None) -> Task:
        """Return ``task`` with the arguments bound that all tasks of a batch share.

        Args:
            support: the support sets of the batch, ``[B, S, ...]``.
            objective: the objective, whose ``measure`` is bound.
            epoch: the training epoch, for methods that change over training; None means after the last epoch.
        """
        return partial(self.task, ways=self.ways_of(support), measure=objective.measure)

    @torch.no_grad()  # torch.func takes inner gradients all the same
    def evaluate(self, episode: Episode) -> Outcome:
        """Return every task's outcome at each stage: loss ``[B, T]``, predictions ``[B, T, Q, ...]``."""
        task = partial(self.evaluate_task, ways=self.ways_of(episode.support))
        return self.settled_engine().map(task, *self.meta(), self.keys(episode), episode)

    def meta(self) -> tuple[Params, Params]:
        """Return (trained meta-parameters, frozen parameters and buffers), by name."""
        trained: Params = {}
        fixed: Params = dict(self.named_buffers())
        for name, parameter in self.named_parameters():
            (trained if parameter.requires_grad else fixed)[name] = parameter
        return trained, fixed

    def tensors(self) -> Params:
        """Return all parameters and buffers, both parts of ``meta`` in one mapping."""
        trained, fixed = self.meta()
        return trained | fixed

    def keys(self, episode: Episode) -> Tensor:
        """Return the random key of each task, ``[B]`` int64; all zero in evaluation, which is deterministic.

        A key depends on the learner's seed and the task's index in its stream alone. It is therefore the same for any
        number of ranks, after a resume, and whenever the same episode comes again.
        """
        if episode.index.shape != episode.query.y.shape[:1] or episode.index.dtype != torch.int64:
            raise UserError(
                f"the episode's index is {list(episode.index.shape)} {episode.index.dtype}, but it has "
                f"{len(episode.query.y)} tasks: give each an int64 number, such as torch.arange({len(episode.query.y)})"
            )
        if not self.training:
            return torch.zeros_like(episode.index)
        # the seed, 31 bits, fills the upper half of the key, the task's index the lower
        return (self.task_seed << 32) + episode.index

    @contextmanager
    def context(self, buffers: Params | None = None) -> Iterator[TaskContext]:
        """Enter the context that the engine gives a task in evaluation, for learning and predicting one without it.

        Args:
            buffers: the second part of ``meta``; computed if not given.
        """
        key, by_vmap = torch.zeros((), dtype=torch.int64, device=self.device), self.settled_engine().over_vmap
        buffers = self.meta()[1] if buffers is None else buffers
        # fused attention kernels have no second derivative (docs/guide/gradients.md)
        with sdpa_kernel(SDPBackend.MATH), TaskContext(key, buffers, rows_by_vmap=by_vmap) as task:
            yield task

    def settled_engine(self) -> Engine:
        """Return the engine resolved for the network as it is now: a hook or layer may have been added since."""
        return self.engine.settled(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to copy or pickle, without compiled functions; they are compiled again when needed."""
        return {**super().__getstate__(), "_compiled": {}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the name of the method: another method's parameters may have the same names and shapes."""
        checkpoint[ALGORITHM] = type(self).__name__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the method and record that the run is resumed.

        Raises:
            UserError: the checkpoint belongs to another method.
        """
        check_algorithm(checkpoint, self)
        self._resumed = True

    def on_fit_start(self) -> None:
        """Load the pretrained network, unless the run is resumed.

        Raises:
            UserError: the checkpoint does not fit the network, or a frozen batch norm has no running statistics.
        """
        for name, module in batch_norms(self.network, self.frozen_batch_norm).items():
            if not module.track_running_stats:
                raise UserError(
                    f"model.frozen_batch_norm matches {name}, which has no running statistics to normalise by: give "
                    "the network batch_norm: running"
                )
            # Lightning warns about modules in evaluation mode when training starts; ``on_train_start`` freezes them
            module.train()
        # a resumed run has its own network in the checkpoint already
        if self.pretrained is not None and not self._resumed:
            load_network(self.network, self.pretrained)

    def on_train_start(self) -> None:
        """Put the frozen batch norms back into evaluation mode."""
        for module in batch_norms(self.network, self.frozen_batch_norm).values():
            module.eval()

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Return the meta-loss, with the meta-gradient attached.

        Raises:
            RuntimeError: there is no trainer.
        """
        if self._trainer is None:
            raise RuntimeError(
                f"training_step belongs to Lightning, and {type(self).__name__} has no Trainer: fit it by "
                "Trainer.fit(learner, data), or take loss = learner.meta_loss(episode) in a loop of your own"
            )
        parameters, buffers = self.meta()
        scaler = self.trainer.scaler
        # the check communicates between ranks: once per epoch, and at the first batch of a resumed run
        if batch_idx == 0 or not self._batches_are_divided:
            refuse_shared_tasks(episode.index)
            self._batches_are_divided = True
        objective = self.objective.at_epoch(self.current_epoch)
        # the loss scale multiplies the objective's derivative, before it is pulled back through the tasks
        scale = None if scaler is None else scaler.scale(torch.ones((), device=self.device))
        gradient, loss, outcome = self._meta_gradient()(
            self.training_task(episode.support, objective, self.current_epoch),
            objective,
            {name: parameter.detach() for name, parameter in parameters.items()},
            buffers,
            self.keys(episode),
            episode,
            scale,
        )
        # running statistics wait for the optimiser step: a step that is refused must not change them either
        statistics = {name: per_task.mean(dim=0) for name, per_task in outcome.buffers.items()}
        self._batches.append(Batch(episode.index, loss, outcome.loss, statistics))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of its connectors
        if every and (self.global_step + 1) % every == 0:
            self._log_training(loss, outcome, episode)
        # the gradient is already computed: ``backward`` only hands it to the parameters, so that loss scaling,
        # clipping, accumulation and DDP treat it as any other gradient
        return with_gradient(loss, gradient, parameters, scale)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop at a gradient that is not finite; otherwise update the running statistics over all tasks of the step."""
        # the epoch that stochastic weight averaging adds takes no step, but Lightning keeps the last gradient
        if skips_backward(self.trainer):
            optimizer.zero_grad()
            return
        batches, self._batches = self._batches, []
        if has_finite_gradient(optimizer):
            self._write_buffers([batch.statistics for batch in batches])
        else:
            stop_if_not_finite(batches, self.global_step, self.trainer.scaler)

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the running statistics in the last epoch of stochastic weight averaging, which takes no steps."""
        if skips_backward(self.trainer):
            batches, self._batches = self._batches, []
            self._write_buffers([batch.statistics for batch in batches])

    def on_validation_epoch_start(self) -> None:
        """Discard the values of the last evaluation."""
        self._start_evaluation()

    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Record the metrics of each episode."""
        self._note(episode)

    def on_validation_epoch_end(self) -> None:
        """Log means and confidence intervals as ``val/...``."""
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Discard the values of the last evaluation."""
        self._start_evaluation()

    def test_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Record the metrics of each episode; return index ``[B]`` and final query predictions ``[B, Q, ...]``."""
        return self._note(episode)

    def on_test_epoch_end(self) -> None:
        """Log means and confidence intervals as ``test/...``."""
        self._log_evaluation("test")

    def predict_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Return the episodes' index ``[B]``, final query predictions ``[B, Q, ...]`` and targets ``[B, Q, ...]``."""
        predictions = self.evaluate(episode).predictions[:, -1]
        return {"index": episode.index, "predictions": predictions, "targets": episode.query.y}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the meta-optimiser over all trained parameters, with its schedule."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        validates_every = 1 if self._trainer is None else self.trainer.check_val_every_n_epoch or 1
        return checked_optimizers(
            trained, self.optimizer, self.lr_scheduler, self.lr_scheduler_interval, validates_every
        )

    def _outcome(self, task: Task, episode: Episode) -> Outcome:
        return self.settled_engine().map(task, *self.meta(), self.keys(episode), episode)

    def _meta_gradient(self) -> Callable[..., tuple[Params, Tensor, Outcome]]:
        engine = self.settled_engine()
        if engine not in self._compiled:
            self._compiled[engine] = engine.compiled_meta_gradient()
        return self._compiled[engine]

    @torch.no_grad()
    def _write_buffers(self, statistics: Sequence[Params]) -> None:
        if not statistics or not statistics[0]:
            return
        mean = {name: torch.stack([part[name] for part in statistics]).mean(dim=0) for name in statistics[0]}
        for name, value in mean_over_ranks(mean).items():
            self.get_buffer(name).copy_(value)
            # tasks leave the counter alone: it advances once per step, not once per task
            if name.endswith("running_mean"):
                self.get_buffer(name.removesuffix("running_mean") + "num_batches_tracked").add_(1)

    @torch.no_grad()
    def _log_training(self, loss: Tensor, outcome: Outcome, episode: Episode) -> None:
        values = episode_metrics(outcome.predictions, episode.query.y, outcome.loss)
        numbers = {name: value for name, value in outcome.measured.items() if value.dim() == 1}
        logged = {f"train/{name}": value.mean() for name, value in (values | numbers | outcome.penalties).items()}
        logged["train/loss"] = loss
        # callbacks on every rank read these values and must decide alike
        self.log_dict(mean_over_ranks(logged), prog_bar=True, batch_size=len(episode.query.y))

    def _start_evaluation(self) -> None:
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "evaluation runs in inference mode, where a method cannot take the gradients it adapts with: "
                "use Trainer(inference_mode=False)"
            )
        self.evaluation.reset()

    def _note(self, episode: Episode) -> dict[str, Tensor]:
        outcome = self.evaluate(episode)
        values = episode_metrics(outcome.predictions, episode.query.y, outcome.loss) | outcome.measured
        self.evaluation.update(episode.index, values)
        return {"index": episode.index, "predictions": outcome.predictions[:, -1]}

    def _log_evaluation(self, split: str) -> None:
        self.last_evaluation = evaluation = self.evaluation.compute()
        logged = {}
        for name, values in evaluation.values.items():
            summary = summarise(values[:, -1])
            logged[f"{split}/{name}"], logged[f"{split}/{name}_ci95"] = summary.mean, summary.ci95
            if values.shape[1] > 1:
                logged[f"{split}/{name}_before_adaptation"] = summarise(values[:, 0]).mean
        # every rank already holds the values of all episodes, so there is nothing left to reduce
        self.log_dict(logged, rank_zero_only=False, sync_dist=False)


def count_ways(support: Labelled) -> int:
    """Return N of a support set labelled 0..N-1 (the largest label plus one); 0 in regression."""
    return 0 if support.y.is_floating_point() else int(support.y.max()) + 1
