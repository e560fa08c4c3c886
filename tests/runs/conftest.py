"""Fixtures that several tests of runs share."""

import os

import pytest


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """No account, no settings of the user's, and no service of W&B's before or after."""
    import wandb  # a second, at collection too

    for name in os.environ:
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("WANDB_CONSOLE", "off")  # the output is pytest's
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()
