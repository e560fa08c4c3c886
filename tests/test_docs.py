"""The pages tell the truth: links resolve, commands parse, options exist, and the code in them runs."""

import importlib
import inspect
import re
import shlex
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import cases
import metalit.algorithms
import metalit.data
from metalit import Engine, PrototypicalNetwork
from metalit.commands.use import export_parser, predict_parser
from metalit.learn2learn_compat import INSTALL
from metalit.main import main
from metalit.networks import Conv4

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "docker" / "README.md",
        *DOCS.rglob("*.md"),
    ]
)
ALGORITHMS = {
    name: cls for name in metalit.algorithms.__all__ if not inspect.isabstract(cls := getattr(metalit.algorithms, name))
}
SECTIONS = [
    "Idea",
    "When to use it",
    "Run it",
    "Logged metrics",
    "Implementation details",
    "Differences from the paper",
    "Results",
]

FENCE = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def page_id(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return [textwrap.dedent(code) for _, found, code in FENCE.findall(page.read_text()) if found == language]


def files_in(page):
    """Return the blocks whose first line is a comment with a file name, by that file's name."""
    code = [block for language in ("python", "yaml") for block in blocks(page, language)]
    named = {match[1]: block for block in code if (match := re.match(r"# (\S+\.(?:py|yaml))\n", block))}
    return {Path(name).name: block for name, block in named.items()}


def commands(page):
    lines = [
        line
        for block in blocks(page, "console")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    return [shlex.split(part, comments=True) for line in lines for part in line[2:].split("&&")]


def anchors(page):
    """Return the names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page):
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_index_leads_to_every_page():
    index = DOCS / "index.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert {page for page in DOCS.rglob("*.md") if page != index} <= linked


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithm_has_page_and_config(name):
    page = DOCS / "algorithms" / (ALGORITHMS[name].__module__.rpartition(".")[2] + ".md")
    assert page.is_file(), f"write {page_id(page)}"
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    configs = [path.read_text() for path in (ROOT / "configs").rglob("*.yaml")]
    assert any(re.search(rf"class_path: (metalit\.algorithms\.)?{name}$", text, re.MULTILINE) for text in configs)


def option_names(package):
    """Return the constructor arguments of every class of a package, those of their bases included."""
    classes = [cls for name in package.__all__ if inspect.isclass(cls := getattr(package, name))]
    return {name for cls in classes for base in cls.__mro__ for name in inspect.signature(base.__init__).parameters}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_options_exist(page):
    known = {"model": option_names(metalit.algorithms), "data": option_names(metalit.data)}
    text = page.read_text()
    for package, name in re.findall(r"(?:--|`)(model|data)\.([a-z_]+)\b(?!\()", text):
        assert name in known[package] | {"help"}, f"there is no option {package}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
@pytest.mark.sample(8)
def test_commands_are_valid(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for name, text in files_in(page).items():
        (tmp_path / name).write_text(text)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands(page):
        if command[0] == "make":
            assert command[1] in targets
        elif command[:2] == ["python", "train.py"] and (command[2] == "export" or "--support" in command):
            assert {"export": export_parser, "predict": predict_parser}[command[2]]().parse_args(command[3:])
        elif command[:2] == ["python", "train.py"]:
            arguments = [str(tmp_path / word) if (tmp_path / word).is_file() else word for word in command[2:]]
            with pytest.raises(SystemExit) as stop:
                main([*arguments, "--print_config"])
            assert stop.value.code == 0, f"{shlex.join(command)}: {capsys.readouterr().err}"


@pytest.mark.parametrize(
    "name",
    [
        "gradients",
        "objectives",
        "episodes-and-reproducibility",
        "getting-started",
        "scaling",
        "adapters",
        "graphs",
        "reinforcement-learning",
        "environments",
    ],
)
def test_code_of_guide_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks(DOCS / "guide" / f"{name}.md", "python")
    assert code
    exec("\n".join(code), {"__name__": name})


def test_code_for_who_comes_from_learn2learn_runs(tmp_path, monkeypatch):
    if find_spec("learn2learn") is None:
        pytest.skip(INSTALL)
    monkeypatch.chdir(tmp_path)
    variables = {"__name__": "from_learn2learn"}
    exec("\n".join(blocks(DOCS / "guide" / "from-learn2learn.md", "python")), variables)
    assert variables["trainer"].callback_metrics["test/accuracy"] > 0


def test_readme_code_runs():
    (code,) = blocks(ROOT / "README.md", "python")
    learner = PrototypicalNetwork(Conv4(in_channels=3, image_size=84)).eval()
    photos, labels, new_photos = (
        torch.rand(10, 3, 84, 84),
        torch.arange(5).repeat(2),
        torch.rand(3, 3, 84, 84),
    )
    given = {"photos": photos, "labels": labels, "new_photos": new_photos}
    exec(code, {"learner": learner, **given})


@pytest.fixture
def page_files(tmp_path, monkeypatch):
    """Write the files of a page into an empty folder, from which they can be imported, and go there."""
    before = set(sys.modules)

    def write(page, *replacements):
        for name, text in files_in(page).items():
            for old, new in replacements:
                text = text.replace(old, new)
            (tmp_path / name).write_text(text)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        return tmp_path

    yield write
    for name in {"sign_maml", "sprites"} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.mark.slow
def test_adding_an_algorithm(page_files, monkeypatch):
    page = DOCS / "adding-an-algorithm.md"
    folder = page_files(
        page,
        ("metalit.algorithms.SignMAML", "sign_maml.SignMAML"),
        ("metalit.algorithms import SignMAML", "sign_maml import SignMAML"),
    )
    algorithm = importlib.import_module("sign_maml").SignMAML

    (row,) = [block for block in blocks(page, "python") if block.startswith("# in CASES")]
    battery = importlib.import_module("algorithms.test_battery")
    monkeypatch.setattr(battery, "CASES", eval(f"{{{row}}}", {**vars(cases), "SignMAML": algorithm}))
    battery.test_learns("SignMAML", "sinusoid")
    battery.test_engine_settings_change_no_number("SignMAML", "sinusoid", Engine("vmap"))

    tests = {}
    exec((folder / "test_sign_maml.py").read_text(), tests)
    for name in [name for name in tests if name.startswith("test_")]:
        tests[name]()

    short = [
        "--trainer.max_steps=300",
        "--data.episodes_per_epoch=7500",
        "--trainer.enable_progress_bar=false",
    ]
    main(["fit", "--config", "sign_maml.yaml", "--run_dir", "run", "--trainer.accelerator=cpu", *short])
    best = torch.load(folder / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == 300
    assert best["callbacks"]  # chosen by val/mse, which the page's config monitors


@pytest.mark.slow
def test_adding_a_data_set(page_files):
    folder = page_files(DOCS / "adding-a-dataset.md")
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(6):
            (folder / "sprites" / split).mkdir(parents=True, exist_ok=True)
            colour = random.integers(0, 256, 3)
            pixels = np.clip(colour + random.normal(0, 20, (40, 20 * 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "sprites" / split / f"class{number}.png")

    settings = yaml.safe_load((folder / "sprites.yaml").read_text())
    network = settings["model"]["init_args"]["network"]["init_args"]
    assert settings["data"]["init_args"]["size"] == network["image_size"]
    small = [
        "--data.size=32",
        "--model.network.image_size=32",
        "--model.network.channels=8",
        "--trainer.enable_progress_bar=false",
    ]
    common = ["--config=sprites.yaml", "--run_dir=run", "--trainer.accelerator=cpu", *small]
    short = ["--trainer.max_epochs=1", "--data.episodes_per_epoch=10", "--data.val_episodes=10"]
    main(["fit", *common, *short, "--trainer.log_every_n_steps=5"])
    main(["test", *common, "--ckpt_path=best", "--data.test_episodes=20"])
    results = yaml.safe_load((folder / "run" / "results.json").read_text())
    assert results["metrics"]["accuracy"]["mean"] > 0.6  # three times chance: the colours tell the classes apart

    sprites = importlib.import_module("sprites").Sprites(root=str(folder / "nothing"))
    with pytest.raises(FileNotFoundError, match=r"no sheets in .*nothing"):
        sprites.load("train")
