"""What Lightning and torch say that nobody who uses metalit needs to hear."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NO_NEWS = (  # messages of Lightning that tell its users nothing of their run
    "Tip: For seamless cloud",  # advertising
    "`weights_only` was not set, defaulting to",  # said at every saving; loading has it set
)
PACKAGES = (
    "lightning.pytorch",
    "pytorch_lightning",
)  # some of Lightning speaks under the name imported first
# Lightning's loggers that say it
TALKATIVE = ("utilities.rank_zero", "trainer.connectors.checkpoint_connector")
NO_USE = (  # warnings that nobody who uses metalit can act on, by the beginning of their text
    ".isinstance.treespec, LeafSpec.. is deprecated",  # Lightning's own code
    "LightningCLI's args parameter is intended to run from within Python",  # as ``main`` does
    "The '.*' does not have many workers",  # episodes are cheap to make: workers slow them down
    "Experiment logs directory .* exists and is not empty",  # what is there was given another name before
    "Checkpoint directory .* exists and is not empty",  # likewise
    "It is recommended to use `self.log",  # what is logged has been gathered from all ranks before
    "The `srun` command is available on your system but is not used",  # as on a login node, on purpose
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Keep from the user what tells nothing or cannot be acted on."""
    loggers = [logging.getLogger(f"{package}.{name}") for package in PACKAGES for name in TALKATIVE]
    for logger in loggers:
        logger.addFilter(is_news)
    threads_hook, threading.excepthook = threading.excepthook, say_in_main_thread
    try:
        with warnings.catch_warnings():
            for beginning in NO_USE:
                warnings.filterwarnings("ignore", beginning)
            yield
    finally:
        threading.excepthook = threads_hook
        for logger in loggers:
            logger.removeFilter(is_news)


def say_in_main_thread(failure: threading.ExceptHookArgs) -> None:
    """Say nothing of a full disk here: TensorBoard, which writes in a thread, raises it again in the main thread."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message tells something of the run."""
    return not any(part in record.getMessage() for part in NO_NEWS)
