"""``torch.compile`` for tasks: a check of what inductor needs, and a backend that refuses unkeyed random numbers."""

import os
import shutil
import sysconfig
from collections.abc import Callable
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
        return compiled(graph, inputs)

    return compile_keyed


def called(node: Node) -> str:
    """Return the name of the function or method that a graph node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
