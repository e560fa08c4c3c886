"""A network's weights from the checkpoint of another run."""

from pathlib import Path

import torch
from torch import nn

from metalit.functional.parameters import scope


def load_network(network: nn.Module, checkpoint: str) -> None:
    """Copy into a network the weights and buffers of the ``network`` of a checkpointed learner.

    Args:
        network: whose entries must have the names and shapes of those in the checkpoint.
        checkpoint: path of a file that metalit or Lightning has written.

    Raises:
        ValueError: there is no such file, it holds no learner, or the networks differ.
    """
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ValueError(
            f"model.pretrained is {checkpoint}, but there is no such file: give a checkpoint of a run"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise ValueError(
            f"model.pretrained: {checkpoint} is not a checkpoint that can be read ({error})"
        ) from error
    found, wanted = scope(state, "network"), network.state_dict()
    for name in [*wanted, *found]:
        ours, theirs = (
            f"of shape {list(entries[name].shape)}" if name in entries else "not there"
            for entries in (wanted, found)
        )
        if ours != theirs:
            raise ValueError(
                f"model.pretrained: {checkpoint} has another network: {name} is {theirs} there and {ours} in ours"
            )
    network.load_state_dict(found)
