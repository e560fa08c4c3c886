"""A short seeded float64 run per family, stored: a change keeps these losses or explains itself.

To store them anew after a change that is meant: ``python tests/test_golden.py``.
"""

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils._pytree import tree_map

from cases import CASES

STORED = Path(__file__).with_name("golden_losses.json")
ROWS = [(name, domain) for name, case in CASES.items() for domain in case.learning]


def losses(name, domain, steps=5):
    torch.manual_seed(0)
    algorithm = CASES[name].make(domain).double()
    algorithm.trainer = L.Trainer(logger=False, accelerator="cpu", log_every_n_steps=10**9)
    data = CASES[name].data(domain)
    optimizer = torch.optim.SGD(algorithm.parameters(), lr=0.01)
    found = []
    for step in range(steps):
        episode = data.episodes("train", 4 * step, 4)
        episode = tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, episode)
        optimizer.zero_grad()
        loss = algorithm.training_step(episode, step)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize(("name", "domain"), ROWS)
@pytest.mark.sample(2)
def test_losses_are_the_stored_ones(name, domain):
    stored = json.loads(STORED.read_text())
    assert losses(name, domain) == pytest.approx(stored[f"{name}/{domain}"], rel=1e-6)


def test_nothing_stored_is_left_over():
    assert set(json.loads(STORED.read_text())) == {f"{name}/{domain}" for name, domain in ROWS}


if __name__ == "__main__":
    found = {f"{name}/{domain}": losses(name, domain) for name, domain in ROWS}
    STORED.write_text(json.dumps(found, indent=1) + "\n")
