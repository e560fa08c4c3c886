"""Whether a run can be sent to Weights & Biases now, decided in seconds and without a question to the user."""

import http.client
import os
import threading
import urllib.error
import urllib.request
from typing import NamedTuple

OFFLINE = ("offline", "dryrun")  # W&B has two words for it
PATIENCE = 3.0  # seconds in which the server has to answer


class Mode(NamedTuple):
    """How W&B is to run.

    Attributes:
        name: ``online``, ``offline``, or what else the user has asked W&B for.
        reason: why it is offline; empty if it is not.
    """

    name: str
    reason: str = ""


def choose_mode(patience: float = PATIENCE) -> Mode:
    """Choose ``online`` if there is an account and the server answers; what the user has chosen comes first.

    The user's choice is ``WANDB_MODE``, or ``wandb offline`` in this folder.

    Args:
        patience: seconds in which the server has to answer.
    """
    import wandb  # takes a second, and most runs do without it
    from wandb.errors import Error
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    if settings.mode in OFFLINE:
        return Mode("offline", "it was told to be")
    if "WANDB_MODE" in os.environ or settings.mode != "online":
        return Mode(settings.mode)
    url = settings.base_url
    try:
        account = wbauth.authenticate_session(host=url, source="metalit", prompt=False, update_session=False)
    except Error as error:
        return Mode("offline", str(error))
    if account is None:
        return Mode("offline", "there is no API key (wandb login, or WANDB_API_KEY)")
    if not answers(url, patience):
        return Mode("offline", f"{url} did not answer within {patience:g} s")
    return Mode("online")


def answers(url: str, patience: float) -> bool:
    """Whether a server gives any answer at all, an error included, within ``patience`` seconds."""
    answered = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience).close()
        except urllib.error.HTTPError:
            pass  # an answer too
        except (OSError, http.client.HTTPException):
            return
        answered.append(True)

    # a thread, because looking up a name has no time limit of its own
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return bool(answered)
