"""A short seeded float64 run of every row of tests/cases.py, stored: a change keeps these losses or explains itself.

To add a new algorithm's: ``python tests/test_golden.py --add SignMAML``; no other row is computed or written anew.
After a change of numbers that is meant: ``--again NAME``, or ``--again`` alone for all.
"""

import argparse
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


def key(name, domain):
    return f"{name}/{domain}"


def store(path, names, again=False, compute=losses):
    """Write the losses of some algorithms; those stored already stay, unless they are to be computed again."""
    stored = json.loads(path.read_text())
    found = {}
    for name, domain in ROWS:
        row = key(name, domain)
        if name in names and (again or row not in stored):
            found[row] = compute(name, domain)
        elif row in stored:
            found[row] = stored[row]
    path.write_text(json.dumps(found, indent=1) + "\n")


@pytest.mark.parametrize(("name", "domain"), ROWS)
@pytest.mark.sample(2)
def test_losses_are_the_stored_ones(name, domain):
    stored = json.loads(STORED.read_text())
    assert key(name, domain) in stored, f"store its losses: python tests/test_golden.py --add {name}"
    assert losses(name, domain) == pytest.approx(stored[key(name, domain)], rel=1e-6)


def test_every_row_is_stored_and_nothing_is_left_over():
    assert list(json.loads(STORED.read_text())) == [key(name, domain) for name, domain in ROWS]


def test_adding_a_row_changes_no_other(tmp_path):
    copy = tmp_path / "losses.json"
    stored = json.loads(STORED.read_text())
    copy.write_text(json.dumps({row: value for row, value in stored.items() if row != "MAML/glyphs"}))
    asked = []

    def compute(name, domain):
        asked.append((name, domain))
        return stored[key(name, domain)]

    store(copy, {"MAML"}, compute=compute)
    assert asked == [("MAML", "glyphs")]
    assert copy.read_text() == STORED.read_text()  # in the order of the table, so that the difference is the row
    store(copy, {"ANIL"}, again=True, compute=lambda name, domain: [1.0])
    changed = json.loads(copy.read_text())
    assert {row for row in stored if changed[row] != stored[row]} == {"ANIL/glyphs"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Store losses in tests/golden_losses.json.")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--add", nargs="+", metavar="NAME", choices=list(CASES), help="rows not stored yet")
    way.add_argument("--again", nargs="*", metavar="NAME", choices=list(CASES), help="none named: all rows")
    given = parser.parse_args()
    store(STORED, set(given.add or given.again or CASES), again=given.add is None)


if __name__ == "__main__":
    main()
