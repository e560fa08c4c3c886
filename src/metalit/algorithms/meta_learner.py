"""The base class of every meta-learner: the hooks through which Lightning trains and evaluates a ``TaskLearner``."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from metalit.algorithms.every_step import (
    add_gradient,
    forget_gradient,
    profile_nothing_fast,
    skip_idle_hooks,
    takes_gradients,
    with_known_signature,
)
from metalit.algorithms.optimizers import checked_optimizers
from metalit.algorithms.pretrained import ALGORITHM, check_algorithm, load_network
from metalit.algorithms.takes_over import HasUnits, NamesMetrics, TakesOver
from metalit.algorithms.task_learner import TaskLearner
from metalit.engine import Engine, with_gradient
from metalit.engine.finite import Batch, has_finite_gradient, stop_if_not_finite
from metalit.episode import Episode
from metalit.errors import UserError
from metalit.metrics.episode_metrics import episode_metrics
from metalit.metrics.episode_values import EpisodeValues, Evaluation
from metalit.metrics.intervals import summarise
from metalit.networks.normalisation import batch_norms
from metalit.networks.partly_trained import partly_trained
from metalit.objectives import Objective, QueryLoss
from metalit.outcome import Outcome
from metalit.private import has_trainer, skips_backward
from metalit.ranks import mean_over_ranks, refuse_shared_tasks
from metalit.tasks.parameters import Params


class MetaLearner(TaskLearner):
    """The base class of every meta-learner, trained by Lightning's automatic optimisation.

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

    of_training: tuple[str, ...] = (
        "optimizer",
        "lr_scheduler",
        "evaluation",
        "last_evaluation",
        "_batches",
        "_finished",
        "_compiled",
    )

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
        super().__init__(network, QueryLoss() if objective is None else objective, engine, frozen_batch_norm)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.lr_scheduler_interval = lr_scheduler_interval
        self.pretrained, self._resumed = pretrained, False
        self.evaluation = EpisodeValues()
        self.last_evaluation: Evaluation | None = None
        self._batches_are_divided = False  # whether the ranks are known to train on different tasks
        self._batches: list[Batch] = []  # batches accumulated for the next optimiser step
        self._finished: list[tuple[Params, Params]] = []  # gradient and parameters of a batch, for ``backward``
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

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to copy or pickle, without compiled functions; they are compiled again when needed."""
        return {**super().__getstate__(), "_compiled": {}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the name of the method: another method's parameters may have the same names and shapes."""
        checkpoint[ALGORITHM] = type(self).__name__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the method, record that the run is resumed, and hand the data what the training found, on other data.

        Raises:
            UserError: the checkpoint belongs to another method.
        """
        check_algorithm(checkpoint, self)
        self._resumed = True
        data = getattr(self.trainer, "datamodule", None) if has_trainer(self) else None
        if isinstance(data, TakesOver):
            data.take_over(checkpoint)

    def on_fit_start(self) -> None:
        """Load the pretrained network, unless the run is resumed, and prepare for the data.

        Raises:
            UserError: the checkpoint does not fit the network, a frozen batch norm has no running statistics, or the
                network does not fit the data.
        """
        for name, module in batch_norms(self.network, self.frozen_batch_norm).items():
            if not module.track_running_stats:
                raise UserError(
                    f"model.frozen_batch_norm matches {name}, which has no running statistics to normalise by: give "
                    "the network batch_norm: running"
                )
            # Lightning warns about modules in evaluation mode when training starts; ``on_train_start`` freezes them
            module.train()
        for network in partly_trained(self.modules()):
            network.train_all()  # for the same reason
        # a resumed run has its own network in the checkpoint already
        if self.pretrained is not None and not self._resumed:
            load_network(self.network, self.pretrained)
        self.prepare(getattr(self.trainer, "datamodule", None))

    def on_train_start(self) -> None:
        """Put the frozen parts back into evaluation mode, and make the steps cheap."""
        profile_nothing_fast(self.trainer)
        skip_idle_hooks(self.trainer)
        for network in partly_trained(self.modules()):
            network.train()
        for module in batch_norms(self.network, self.frozen_batch_norm).values():
            module.eval()

    def gathered(self, batch: Any) -> Episode:
        """Return the episode to train on: the batch itself, unless a learner gathers its own examples."""
        return batch  # type: ignore[no-any-return]

    @with_known_signature
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the meta-loss, with the meta-gradient attached.

        Raises:
            RuntimeError: there is no trainer.
        """
        if not has_trainer(self):
            raise RuntimeError(
                f"training_step belongs to Lightning, and {type(self).__name__} has no Trainer: fit it by "
                "Trainer.fit(learner, data), or take loss = learner.meta_loss(episode) in a loop of your own"
            )
        self._finished.clear()  # of a batch whose backward pass was skipped
        episode = self.gathered(batch)
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
        if takes_gradients(self.trainer, parameters):
            self._finished.append((gradient, parameters))
            return loss
        return with_gradient(loss, gradient, parameters, scale)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Hand the gradient of the batch to the parameters; through autograd unless that would only cost time."""
        if self._finished:
            add_gradient(*self._finished.pop(), 1 / self.trainer.accumulate_grad_batches)
        else:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Forget the gradient of the last step."""
        forget_gradient(optimizer)

    def training_values(self, outcome: Outcome, episode: Episode) -> dict[str, Tensor]:
        """Return what is logged of a training batch besides the loss: one value per task ``[B]`` by name."""
        return self._metrics(outcome, episode)

    def evaluation_values(self, batch: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Return the metrics of each task at each stage ``[B, T]`` by name, and what is predicted after the last."""
        outcome = self.evaluate(batch)
        return self._metrics(outcome, batch) | outcome.measured, self._own_units(outcome.predictions[:, -1])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop at a gradient that is not finite; otherwise update the running statistics over all tasks of the step."""
        # the epoch that stochastic weight averaging adds takes no step, but Lightning keeps the last gradient
        if skips_backward(self.trainer):
            optimizer.zero_grad()
            return
        batches = self._taken_batches()
        if has_finite_gradient(optimizer, [batch.value for batch in batches]):
            self._write_buffers([batch.statistics for batch in batches])
        else:
            stop_if_not_finite(batches, self.global_step, self.trainer.scaler)

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the running statistics in the last epoch of stochastic weight averaging, which takes no steps."""
        if skips_backward(self.trainer):
            self._write_buffers([batch.statistics for batch in self._taken_batches()])

    def on_validation_start(self) -> None:
        """Prepare for the data, if no training has."""
        self.prepare(getattr(self.trainer, "datamodule", None))

    def on_test_start(self) -> None:
        """Decide what has to be decided before the first episode."""
        self.decide(getattr(self.trainer, "datamodule", None))

    def on_predict_start(self) -> None:
        """Decide what has to be decided before the first episode."""
        self.decide(getattr(self.trainer, "datamodule", None))

    def on_validation_epoch_start(self) -> None:
        """Discard the values of the last evaluation."""
        self._start_evaluation()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Record the metrics of each episode."""
        self._note(batch)

    def on_validation_epoch_end(self) -> None:
        """Log means and confidence intervals as ``val/...``."""
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Discard the values of the last evaluation."""
        self._start_evaluation()

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Record the metrics of each episode; return index ``[B]`` and final query predictions ``[B, Q, ...]``."""
        return self._note(batch)

    def on_test_epoch_end(self) -> None:
        """Log means and confidence intervals as ``test/...``."""
        self._log_evaluation("test")

    def predict_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Return the episodes' index ``[B]``, final query predictions ``[B, Q, ...]`` and targets ``[B, Q, ...]``.

        For tasks of unequal size also the ``mask [B, Q]`` of the queries.
        """
        predictions, query = self._own_units(self.evaluate(episode).predictions[:, -1]), episode.query
        mask = {} if query.mask is None else {"mask": query.mask}
        return {"index": episode.index, "predictions": predictions, "targets": self._own_units(query.y), **mask}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the meta-optimiser over all trained parameters, with its schedule."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        validates_every = (has_trainer(self) and self.trainer.check_val_every_n_epoch) or 1
        return checked_optimizers(
            trained, self.optimizer, self.lr_scheduler, self.lr_scheduler_interval, validates_every
        )

    def _meta_gradient(self) -> Callable[..., tuple[Params, Tensor, Outcome]]:
        engine = self.settled_engine()
        if engine not in self._compiled:
            self.engine.announce(self)
            self._compiled[engine] = engine.compiled_meta_gradient()
        return self._compiled[engine]

    def _taken_batches(self) -> list[Batch]:
        batches = self._batches.copy()
        self._batches.clear()
        return batches

    def _write_buffers(self, statistics: Sequence[Params]) -> None:
        if statistics and statistics[0]:
            self._write_mean(statistics)

    @torch.no_grad()
    def _write_mean(self, statistics: Sequence[Params]) -> None:
        mean = {name: torch.stack([part[name] for part in statistics]).mean(dim=0) for name in statistics[0]}
        for name, value in mean_over_ranks(mean).items():
            self.get_buffer(name).copy_(value)
            # tasks leave the counter alone: it advances once per step, not once per task
            if name.endswith("running_mean"):
                self.get_buffer(name.removesuffix("running_mean") + "num_batches_tracked").add_(1)

    @torch.no_grad()
    def _log_training(self, loss: Tensor, outcome: Outcome, episode: Episode) -> None:
        values = self.training_values(outcome, episode)
        values |= {name: value for name, value in outcome.measured.items() if value.dim() == 1} | outcome.penalties
        # of the tasks in which a metric is defined; all of them, of nearly all metrics
        known = {name: ~value.isnan() for name, value in values.items()}
        sums = {name: torch.where(known[name], value, 0).mean() for name, value in values.items()}
        shares = {f"{name} share": part.to(values[name].dtype).mean() for name, part in known.items()}
        # callbacks on every rank read these values and must decide alike
        means = mean_over_ranks(sums | shares | {"loss": loss})
        logged = {f"train/{name}": means[name] / means[f"{name} share"] for name in values}
        self.log_dict(logged | {"train/loss": means["loss"]}, prog_bar=True, batch_size=len(episode.index))

    def _start_evaluation(self) -> None:
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "evaluation runs in inference mode, where a method cannot take the gradients it adapts with: "
                "use Trainer(inference_mode=False)"
            )
        self.evaluation.reset()

    def _note(self, batch: Any) -> dict[str, Tensor]:
        values, predictions = self.evaluation_values(batch)
        self.evaluation.update(batch.index, values)
        return {"index": batch.index, "predictions": predictions}

    def _metrics(self, outcome: Outcome, episode: Episode) -> dict[str, Tensor]:
        """Return the loss and the metrics that the data module names, of each task."""
        data, query = getattr(self.trainer, "datamodule", None), episode.query
        names = data.metrics if isinstance(data, NamesMetrics) else ()
        predictions, targets = self._own_units(outcome.predictions), self._own_units(query.y)
        return episode_metrics(predictions, targets, outcome.loss, query.mask, names)

    def _own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions in the units in which the data report errors."""
        data = getattr(self.trainer, "datamodule", None) if has_trainer(self) else None
        return data.own_units(values) if isinstance(data, HasUnits) else values

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
