"""Checks on resuming from a checkpoint of the same method, and loading a network from a checkpoint of any method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metalit.errors import UserError
from metalit.tasks.parameters import scope

ALGORITHM = "algorithm"  # checkpoint key: the name of the learner's class


def check_algorithm(checkpoint: Mapping[str, Any], learner: nn.Module, path: str = "") -> None:
    """Refuse the checkpoint of another method; older checkpoints, which do not name their method, pass.

    Args:
        checkpoint: the contents of the file.
        learner: the learner that resumes from it.
        path: path of the file, for the message.

    Raises:
        UserError: the methods differ; the message names both.
    """
    found, expected = checkpoint.get(ALGORITHM), type(learner).__name__
    if found not in (None, expected):
        raise UserError(
            f"ckpt_path is {path and f'{path}, which is '}a checkpoint of {found}, but the model is {expected}: give "
            f"the configuration it was trained with, or start {expected} from its network with --model.pretrained"
        )


def load_network(network: nn.Module, checkpoint: str) -> None:
    """Copy weights and buffers from the ``network`` of a checkpointed learner.

    Args:
        network: the destination; names and shapes of its entries must be those in the checkpoint.
        checkpoint: path of a checkpoint written by metalit or Lightning.

    Raises:
        UserError: there is no such file, it holds no learner, or the networks differ.
    """
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise UserError(f"model.pretrained is {checkpoint}, but there is no such file: give a checkpoint of a run")
    try:
        # weights_only: loading a checkpoint must not execute code
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise UserError(f"model.pretrained: {checkpoint} is not a checkpoint that can be read ({error})") from error
    # load_state_dict would raise a RuntimeError that names neither the option nor the file
    found, wanted = scope(state, "network"), network.state_dict()
    for name in [*wanted, *found]:
        ours, theirs = (
            f"of shape {list(entries[name].shape)}" if name in entries else "not there" for entries in (wanted, found)
        )
        if ours != theirs:
            raise UserError(
                f"model.pretrained: {checkpoint} has another network: {name} is {theirs} there and {ours} in ours"
            )
    network.load_state_dict(found)
