"""The allocator setting takes effect where it can and is harmless elsewhere."""

import platform

import metalit.allocator
from metalit.allocator import keep_freed_memory


def test_takes_effect_with_glibc():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_changes_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(metalit.allocator.sys, "platform", "darwin")
    assert keep_freed_memory() is False
