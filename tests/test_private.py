"""What metalit uses of other libraries' private names is there, and stands in two files: one needs no Lightning."""

import ast
import re
from pathlib import Path

import lightning as L
import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import WandbLogger

import metalit
from metalit import options, private

FILES = [Path(module.__file__) for module in (private, options)]
# of whom, the name, and what would go wrong without it
NAMES = [
    ("fit_loop", "_should_accumulate", "a checkpoint would be saved between two steps"),
    ("fit_loop", "_skip_backward", "weight averaging would step in its epoch for statistics"),
    ("fit_loop", "_data_fetcher", "a resumed run would not know whether it owes a validation"),
    ("epoch_loop", "_should_check_val_fx", "likewise"),
    ("epoch_loop", "_batches_that_stepped", "loggers would count steps from 0"),
    ("val_loop", "_has_run", "a resumed run would train on one batch more"),
    ("signals", "_original_handlers", "handlers would not be restored"),
    ("signals", "_register_signal", "signals would be handled in the midst of a step"),
    ("module", "_trainer", "training_step outside a Trainer would fail without a hint"),
    ("module", "_current_fx_name", "every step would set 44 attributes the slow way again"),
    ("trainer", "_signal_connector", "Lightning's handlers would stay, and ranks would wait for one another"),
    ("cli", "_get", "callbacks and loggers of the user's would be lost"),
    ("cli", "_parser", "submit could not write the settings of a run"),
    ("cli", "_run_subcommand", "submit would train where it only checks"),
    ("cli", "_parse_ckpt_path", "the checkpoint's options would win over those given"),
    ("logger", "_experiment", "a W&B run could not be opened again"),
    ("logger", "_id", "a resumed run would be another W&B run"),
    ("logger", "_save_dir", "W&B would write elsewhere"),
    ("parser", "_actions", "no option would be found"),
    ("parser", "_check_value_key", "numbers that are none would be taken"),
    ("parser", "_add_signature_parameter", "a parameter without a type would not be an option"),
    ("option", "_typehint", "messages would not say what an option takes"),
    ("option", "_check_type_", "null would be taken everywhere"),
]


@pytest.fixture(scope="module")
def owners():
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    parser = ArgumentParser()
    option = parser.add_argument("--x", type=int | None)
    loop = trainer.fit_loop
    return {
        "module": L.LightningModule(),
        "trainer": trainer, "signals": trainer._signal_connector, "fit_loop": loop, "epoch_loop": loop.epoch_loop,
        "val_loop": loop.epoch_loop.val_loop, "cli": LightningCLI, "logger": WandbLogger(offline=True),
        "parser": parser, "option": option,
    }  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "without"), NAMES)
def test_the_name_is_there(owner, name, without, owners):
    assert hasattr(owners[owner], name), without


def test_every_private_name_in_the_files_is_in_the_table():
    text = "".join(file.read_text(encoding="utf-8") for file in FILES)
    used = re.findall(r"(?:\.|def |\"|import )(_[a-z]\w+)", text)
    assert set(used) == {name for _, name, _ in NAMES}


def test_no_other_file_uses_one():
    names = "|".join(name for _, name, _ in NAMES if name not in ("_id", "_name", "_get"))
    found = [
        (path.name, match[0])
        for path in Path(metalit.__file__).parent.rglob("*.py")
        if path not in FILES
        for match in re.finditer(rf"(?:\.|def |\")(?:{names})\b", path.read_text(encoding="utf-8"))
    ]
    assert found == []


# private attributes that are neither metalit's own nor in that file: of torch, torchmetrics and the standard library
ELSEWHERE = {
    "_amp_foreach_non_finite_check_and_unscale_", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks",
    "_forward_pre_hooks", "_nested_tensor_from_mask_left_aligned", "_dynamo", "_pytree", "_schedulers", "_version",
    "_foreach_mul", "_inductor", "_modules", "_parameters", "_post_accumulate_grad_hooks", "_is_synced",
    "_asdict", "_exit", "_replace",
}  # fmt: skip


def test_no_private_attribute_is_unaccounted_for():
    files = [path for path in Path(metalit.__file__).parent.rglob("*.py") if path not in FILES]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)]
    own = {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert {node.attr for node in attributes} - own == ELSEWHERE


def test_argparse_knows_its_commands():
    parser = ArgumentParser()
    commands = parser.add_subcommands()
    inner = ArgumentParser()
    commands.add_subcommand("fit", inner)
    assert list(options.commands_of(parser)) == [inner]
