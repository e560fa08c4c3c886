"""FS-Mol from the command line: the comparison on the miniature, its metric by hand, one message for each mistake."""

import gzip
import importlib
import json
from pathlib import Path

import pytest
import torch

from metalit.evaluation.results import read_episodes, read_results
from metalit.main import main
from metalit.metrics.task_metrics import delta_auprc
from miniature_molecules import write_fs_mol

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[3]
RIDGE = str(ROOT / "configs" / "fs_mol" / "ridge.yaml")
QUIET = ("--trainer.enable_progress_bar", "false")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A miniature that no test changes."""
    return write_fs_mol(tmp_path_factory.mktemp("fs_mol") / "data", (5, 2, 3), 24)


@pytest.fixture
def comparison(monkeypatch):
    """The module of the comparison, which belongs to no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.fs_mol.__main__")


def test_delta_auprc_by_hand():
    """Five molecules, two active, two ties: at scores 3, 2 and 1 precision is 1/2, 2/3, 2/5 and recall 1/2, 1, 1."""
    scores, labels = torch.tensor([3.0, 1.0, 2.0, 3.0, 1.0]), torch.tensor([1, 0, 1, 0, 0])
    logits = torch.stack([torch.zeros(5), scores], dim=-1)[None]
    by_hand = 1 / 2 * 1 / 2 + 2 / 3 * 1 / 2 - 2 / 5
    assert delta_auprc(logits, labels[None]).item() == pytest.approx(by_hand)
    padded = [torch.cat([part, 9 * torch.ones_like(part[:, :2])], dim=1) for part in (logits, labels[None])]
    mask = torch.arange(7)[None] < 5
    assert delta_auprc(*padded, mask).item() == pytest.approx(by_hand)


def test_a_test_is_that_of_scikit_learn_on_the_same_divisions(comparison, root, tmp_path, capsys):
    """The ridge probe orders molecules as RidgeClassifier does; so both figures agree in every division."""
    pytest.importorskip("sklearn")
    rows = ["ridge (scikit-learn)", "ridge probe"]
    comparison.main(["--root", str(root), "--out", str(tmp_path), "--sizes", "16", "--draws", "2", "--only", *rows])
    theirs, ours = (tmp_path / f"{name}-16" for name in ("ridge_scikit_learn", "ridge_probe"))
    a, b = (read_episodes(folder)["delta_auprc"] for folder in (theirs, ours))
    assert len(a) == 3 * 2
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    printed = capsys.readouterr().out
    found = comparison.summary(ours)
    assert f"| ridge probe | 3 × 2 | kNN | {found.mean:.3f} ± {found.ci95:.3f} ({found.ci95_draws:.3f}) |" in printed
    stated = read_results(ours)["metrics"]["delta_auprc"]
    assert stated["ci95"] == pytest.approx(found.ci95)
    assert read_results(ours)["setting"]["tasks"] == {"test": 3}


def test_published_figures_are_no_measured_ones(comparison, tmp_path):
    lines = comparison.table({}, (16, 128), tmp_path).splitlines()[2:]
    assert len(lines) == 7
    assert all(line.startswith("| *published:* ") for line in lines)
    assert "| *published:* MAML (GNN) | 157 × 10 |  | 0.165 ± 0.017 | 0.197 ± 0.018 |" in lines


@pytest.mark.slow
def test_the_whole_comparison_runs(comparison, root, tmp_path, capsys):
    pytest.importorskip("sklearn")
    fit = [
        "--trainer.max_steps",
        "2",
        "--trainer.log_every_n_steps",
        "1",
        "--data.train_shots",
        "16",
        "--data.tasks_per_batch",
        "2",
    ]
    options = ["--root", str(root), "--out", str(tmp_path), "--sizes", "16", "--draws", "1"]
    comparison.main([*options, *fit, "--data.episodes_per_epoch", "4"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "| 3 × 1 |" in line]
    assert len(lines) == 7
    assert all("±" in line for line in lines)


def broken(root, name):
    """Make one mistake in the files; return options that show it and words of the message."""
    file = sorted((root / "test").iterdir())[0]
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    if name == "no gzip":
        file.write_bytes(b"text")
        return [], "is not a whole gzip file"
    if name == "no folder":
        return ["--data.root", str(root / "elsewhere")], "https://figshare.com"
    if name == "broken JSON":
        file.write_bytes(gzip.compress(b'{"SMILES": "C", \n'))
        return [], "line 1: it is not JSON"
    if name == "small task":
        return ["--data.shots", "60"], "data.shots is 60, expected"
    if name == "unknown inputs":
        return ["--data.inputs", "smiles"], "data.inputs: found smiles"
    if name == "missing key":
        del rows[4]["fingerprints"]
    else:
        rows = [row | {"Property": "0.0"} for row in rows]
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return [], "line 5, has no fingerprints" if name == "missing key" else "0 of them active"


@pytest.mark.parametrize(
    "mistake",
    ["no folder", "no gzip", "broken JSON", "missing key", "one class", "small task", "unknown inputs"],
)
def test_a_mistake_is_one_message(tmp_path, capsys, mistake):
    root = write_fs_mol(tmp_path / "data", (1, 1, 1), 24)
    options, words = broken(root, mistake)
    command = ["test", "--config", RIDGE, "--run_dir", str(tmp_path / "run"), *QUIET]
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--data.root", str(root), *options])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert len(message) < 1500
