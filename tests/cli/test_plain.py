"""The parsers that need no Lightning say what those that have it say."""

import sys
from pkgutil import resolve_name

import pytest

from commands import complaint
from metalit.cli import MetalitCLI, plain
from metalit.cli.failures import mistakes
from metalit.commands import COMMANDS, PREDICT_OWN, find_command
from metalit.main import main


def said(capsys, run):
    with pytest.raises(SystemExit) as caught:
        run()
    return caught.value.code, *capsys.readouterr()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["--version"], ["fitt"], ["zzz", "--help"], ["fit2", "x"]])
def test_the_outline_says_what_lightnings_parser_says(words, capsys):
    assert plain.ends_at_the_outline(words)
    assert said(capsys, lambda: main(words)) == said(capsys, lambda: MetalitCLI(words))


@pytest.mark.parametrize("words", [["fit"], ["test", "--help"], ["--config", "x.yaml", "fit"], ["--help", "fit"]])
def test_what_needs_options_is_left_to_lightning(words):
    assert not plain.ends_at_the_outline(words)


def test_the_shell_completes_options_by_lightnings_parser(monkeypatch):
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert not plain.ends_at_the_outline([])


def test_the_outline_knows_every_command_of_lightnings():
    assert set(plain.COMMANDS) == set(MetalitCLI.subcommands(type("Words", (), {"_first_word": ""})()))


@pytest.mark.parametrize("place", [*COMMANDS.values(), PREDICT_OWN])
def test_every_command_is_where_the_table_says(place):
    assert callable(resolve_name(place))


def test_a_word_leads_to_its_command():
    assert find_command(["status", "run"]) is resolve_name(COMMANDS["status"])
    assert find_command(["predict", "--support=a"]) is resolve_name(PREDICT_OWN)
    assert find_command(["predict", "--config", "c.yaml"]) is find_command(["fit"]) is find_command([]) is None


def test_an_abbreviation_is_refused(capsys):
    assert complaint(capsys, lambda: main(["logs", "run", "--foll", "true"])).startswith(
        "foll: logs has no such option"
    )


def test_an_error_of_lightnings_is_a_mistake_where_lightning_is_loaded(monkeypatch):
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    assert MisconfigurationException in mistakes()
    monkeypatch.delitem(sys.modules, "lightning.fabric.utilities.exceptions")
    assert MisconfigurationException not in mistakes()
