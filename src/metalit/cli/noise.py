"""Messages of Lightning and torch that are of no use to users of metalit."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NO_NEWS = (  # messages of Lightning that say nothing about the run
    "Tip: For seamless cloud",  # advertising
    "`weights_only` was not set, defaulting to",  # logged at every save; when loading, it is set
)
PACKAGES = ("lightning.pytorch", "pytorch_lightning")  # parts of Lightning log under the name imported first
TALKATIVE = ("utilities.rank_zero", "trainer.connectors.checkpoint_connector")  # its loggers of these messages
NO_USE = (  # warnings that users of metalit cannot act on: regular expressions for the start of the text
    ".isinstance.treespec, LeafSpec.. is deprecated",  # from Lightning's own code
    "LightningCLI's args parameter is intended to run from within Python",  # main passes args on purpose
    "The '.*' does not have many workers",  # episodes are cheap to build: workers slow them down
    "Experiment logs directory .* exists and is not empty",  # existing files have been renamed before
    "Checkpoint directory .* exists and is not empty",  # the same
    "It is recommended to use `self.log",  # metrics are gathered from all ranks before logging
    "The `srun` command is available on your system but is not used",  # intended, as on a login node
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Suppress the messages and warnings listed above, and restore logging and warnings afterwards."""
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
    """Print an uncaught exception of a thread, unless it is an ``OSError``.

    TensorBoard writes in a thread; on a full disk it raises the error again in the main thread, which reports it.
    """
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message says something about the run."""
    return not any(part in record.getMessage() for part in NO_NEWS)
