"""``torch.compile`` for tasks: a check of what inductor needs, and a backend that refuses unkeyed random numbers."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from metalit.errors import UserError
from metalit.tasks.draws import DRAWS

# Names under which a traced graph calls random functions. The exceptions are in DRAWS but may remain in a graph: empty
# tensors are not random, and attention is random only with dropout, which the task replaces during tracing.
DRAWING = {
    function.__name__
    for function in DRAWS
    if function not in (torch.empty, torch.empty_like, Tensor.new_empty, F.scaled_dot_product_attention)
}

# Packages whose functions, classes and tables stay what they are while a program runs.
CONSTANT = {"torch", "metalit", *sys.stdlib_module_names}
# How the compiler names a global: of a module by its name with _dot_ for dots, of the engine's own file without it.
GLOBAL = re.compile(r"G\['(?:__import_(?P<module>\w+)|[a-zA-Z]\w*|__builtins_dict__\w+)'\]")


def guards_to_keep(guards: Sequence[Any]) -> list[bool]:
    """Return which conditions a compiled function checks at every call: all but those on globals of libraries.

    Tensors, and everything that a learner, its network and the objective are made of, stay checked, as do the globals
    of the user's own modules. Functions of torch and tables of metalit are half of all conditions, and of a small
    network's step their check would be a fifth.

    Args:
        guards: the compiler's ``GuardFilterEntry`` objects.
    """
    return [not (guard.is_global and is_constant(guard.name)) for guard in guards]


def is_constant(name: str) -> bool:
    """Return whether a global, by the compiler's name for it, belongs to a library; False if the name says nothing.

    Args:
        name: such as ``G['__import_torch_dot_nn'].Linear``.
    """
    root = GLOBAL.search(name)
    # hooks on all modules are kept in a table of torch's that its users change
    if root is None or "._global_" in name:
        return False
    return root["module"] is None or root["module"].split("_dot_")[0] in CONSTANT


def missing_for_inductor() -> str | None:
    """Return which requirement of inductor is missing on this machine, or None."""
    # inductor generates C++ code and compiles it against Python's headers
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "c++")):
        return "a C++ compiler"
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        return "Python.h (Debian: python3-dev)"
    return None


def keyed(backend: str) -> Callable[[GraphModule, list[Tensor]], Any]:
    """Return a backend of ``torch.compile`` that refuses graphs with draws from torch's own generator.

    The compiler hides some functions, ``torch.rand_like`` among them, from the task's context. Their random numbers
    would not come from the task's key.

    Args:
        backend: name of the backend that compiles the graph.
    """
    compiled = torch._dynamo.lookup_backend(backend)

    def compile_keyed(graph: GraphModule, inputs: list[Tensor]) -> Any:
        for node in graph.graph.nodes:
            name = called(node)
            if name in DRAWING:
                raise UserError(
                    f"the compiler hides the network's call of {name} from the task, whose key its numbers must come "
                    "from; torch.rand(x.shape, device=x.device) and torch.randn are keyed there too"
                )
        with called_from_cpp(inputs):
            return compiled(graph, inputs)

    return compile_keyed


def called_from_cpp(inputs: Sequence[object]) -> AbstractContextManager[None]:
    """Return a context in which inductor writes the code that calls its kernels in C++ too, if all is on a CPU.

    A small network's step is a hundred kernels of microseconds, and Python would take as long to call them.

    Args:
        inputs: the inputs of the graph to compile.
    """
    on_cpu = all(each.device.type == "cpu" for each in inputs if isinstance(each, Tensor))
    return torch._inductor.config.patch(cpp_wrapper=True) if on_cpu else nullcontext()


def called(node: Node) -> str:
    """Return the name of the function or method that a graph node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
