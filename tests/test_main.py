"""The end of a process: what is done and saved must not fail while the interpreter ends."""

import signal

import pytest
import torch.distributed as dist

from metalit.main import main
from metalit.runs.preemption import SIGNALS, STOPPED_EARLY, Preempted


def group(folder):
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=0, world_size=1)


@pytest.fixture
def own_signals():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("end", [None, Preempted(STOPPED_EARLY)], ids=["finished", "stopped"])
def test_a_process_leaves_its_ranks_before_the_interpreter_ends(end, tmp_path, monkeypatch, own_signals):
    def command(_):
        group(tmp_path)
        if end is not None:
            raise end

    monkeypatch.setattr("metalit.lightning_commands.MetalitCLI", command)
    monkeypatch.setattr("sys.argv", ["train.py", "fit"])
    if end is None:
        main()
    else:
        with pytest.raises(Preempted):
            main()
    assert not dist.is_initialized()


def test_a_caller_keeps_the_ranks_it_may_need_again(tmp_path, monkeypatch):
    monkeypatch.setattr("metalit.lightning_commands.MetalitCLI", lambda _: group(tmp_path))
    main(["fit"])
    assert dist.is_initialized()
    dist.destroy_process_group()
