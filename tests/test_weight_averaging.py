"""Stochastic weight averaging with running batch norm, whose last epoch measures the statistics of averaged weights."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn

from cases import DOMAINS
from metalit import PrototypicalNetwork
from metalit.networks import Conv4


class LastEpoch(L.Callback):
    """Keeps the episodes of the epoch after the last."""

    def __init__(self, epoch):
        self.epoch, self.episodes = epoch, []

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            self.episodes.append(batch)


@pytest.mark.parametrize("mode", ["running", "renorm"])
def test_statistics_are_the_cumulative_average_over_the_last_epoch(mode, tmp_path):
    torch.manual_seed(0)
    learner = PrototypicalNetwork(Conv4(channels=4, batch_norm=mode))
    last = LastEpoch(3)
    trainer = L.Trainer(
        max_epochs=3,
        callbacks=[StochasticWeightAveraging(1e-2, swa_epoch_start=1), last],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(learner, DOMAINS["glyphs"].data())
    found = {name: buffer.clone() for name, buffer in learner.network.named_buffers()}
    norms = [module for module in learner.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(last.episodes) == 2
    assert [norm.num_batches_tracked.item() for norm in norms] == [2] * len(norms)
    if mode == "renorm":  # its corrections depend on the statistics so far
        return
    for norm in norms:
        norm.momentum = 1.0  # then a task's new statistics are its own
    statistics = [learner.train()(episode).buffers for episode in last.episodes]
    for name, value in statistics[0].items():
        expected = torch.stack([each[name].mean(dim=0) for each in statistics]).mean(dim=0)
        assert value.shape[0] == 4
        torch.testing.assert_close(found[name.removeprefix("network.")], expected, rtol=1e-4, atol=1e-6)
