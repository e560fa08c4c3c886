"""Meta-learning and few-shot learning with PyTorch Lightning.

What is exported here is loaded when it is first asked for: ``import metalit`` takes no time, and ``from metalit import
Episode`` loads neither Lightning nor what Lightning loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metalit.algorithms import FOMAML, MAML, MetaLearner, PrototypicalNetwork
    from metalit.engine import Engine
    from metalit.episode import Episode, Labelled
    from metalit.inference.few_shot_classifier import FewShotClassifier
    from metalit.loading import LoadedRun, load
    from metalit.outcome import Outcome

__version__ = "0.1.0"

__all__ = [
    "FOMAML",
    "MAML",
    "Engine",
    "Episode",
    "FewShotClassifier",
    "Labelled",
    "LoadedRun",
    "MetaLearner",
    "Outcome",
    "PrototypicalNetwork",
    "load",
]

_MODULES = {
    "algorithms": ("FOMAML", "MAML", "MetaLearner", "PrototypicalNetwork"),
    "engine": ("Engine",),
    "episode": ("Episode", "Labelled"),
    "inference.few_shot_classifier": ("FewShotClassifier",),
    "loading": ("LoadedRun", "load"),
    "outcome": ("Outcome",),
}
_MODULE_OF = {name: f"metalit.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load what is exported (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'metalit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    """Name what is not loaded yet, too."""
    return sorted({*globals(), *__all__})
