"""The one door to learn2learn 0.2.0 (Arnold et al. 2020, arXiv:2008.12284), an optional dependency.

``import learn2learn`` loads everything it has, and so fails wherever gym or torchvision is missing. Its algorithms,
data, nn, optim, text and vision.models need neither. Nothing else in metalit imports learn2learn by itself.
"""

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType

INSTALL = (
    "learn2learn is not installed: run `make install`, or `pip install tqdm requests scipy` and then "
    "`pip install --no-deps -r requirements/l2l.txt`"
)
# Packages whose __init__ imports optional dependencies: those dependencies, and the subpackages that work without.
GREEDY = {
    "learn2learn": (("gym", "torchvision"), ("utils", "data", "algorithms", "nn", "optim", "text")),
    "learn2learn.vision": (("torchvision",), ("models",)),
}


def import_learn2learn(part: str) -> ModuleType:
    """Import one part of learn2learn, without gym and torchvision where they are missing.

    A learn2learn that is already imported is used as it is, and one that has all it needs is imported whole.
    Otherwise its parent packages enter ``sys.modules`` without running their ``__init__``, with those parts that need
    neither gym nor torchvision; a later ``import learn2learn as l2l`` anywhere finds them as ``l2l.data`` and so on.

    Args:
        part: name of a module below ``learn2learn``, such as ``"data"``, ``"algorithms"`` or ``"vision.models"``.

    Returns:
        The module ``learn2learn.<part>``.

    Raises:
        ImportError: learn2learn is not installed (the message says how to install it), or ``part`` itself needs
            gym or torchvision.
    """
    name = f"learn2learn.{part}"
    if "learn2learn" not in sys.modules and find_spec("learn2learn") is None:
        raise ImportError(INSTALL)
    for package, (needs, parts) in GREEDY.items():
        missing = package not in sys.modules and any(find_spec(need) is None for need in needs)
        if missing and name.startswith(f"{package}."):
            _enter_bare(package)
            # Its parts meet through attributes of their package (data uses learn2learn.utils), whichever is wanted.
            for each in parts:
                importlib.import_module(f"{package}.{each}")
    return importlib.import_module(name)


def _enter_bare(package: str) -> None:
    """Put ``package`` into ``sys.modules`` without running its ``__init__``."""
    spec = find_spec(package)
    assert spec is not None
    sys.modules[package] = module = module_from_spec(spec)
    parent, _, leaf = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, module)
