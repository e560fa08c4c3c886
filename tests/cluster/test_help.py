"""The help of the commands for clusters."""

import dataclasses
import re

import pytest

from metalit.cluster import Slurm
from metalit.commands import COMMANDS
from metalit.main import main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"python train.py {command}" in text
    options = {"submit": ["cluster", "sweep", "test", "dry_run"], "logs": ["follow"]}
    for option in options.get(command, []):
        assert re.search(rf" --{option} .*?[a-z]{{2,}} [a-z]{{2,}}.*?\(type: ", text), option


def test_every_setting_of_slurm_is_documented(capsys):
    with pytest.raises(SystemExit):
        main(["submit", "--cluster.help", "Slurm"])
    text = " ".join(capsys.readouterr().out.split())
    for name in (field.name for field in dataclasses.fields(Slurm)):
        assert re.search(rf"--cluster\.{name}[ ,][^(]* [a-z]+[;,]? [a-z]+[^(]*\(type: ", text), name
