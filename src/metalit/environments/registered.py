"""Single environments of gymnasium by their id, without a time limit."""

import difflib
from typing import Any

from metalit.environments.optional import INSTALL, needs_extra
from metalit.errors import UserError

UNLIMITED = -1  # gymnasium's word for no time limit


def make_registered(name: str, **settings: Any) -> Any:
    """Return ``gymnasium.make(name)`` without its time limit and its checks at every step.

    Raises:
        UserError: gymnasium or what the environment needs is missing; there is no such environment; it has no such
            keyword.
    """
    with needs_extra(name):
        import gymnasium

        try:
            return gymnasium.make(name, disable_env_checker=True, max_episode_steps=UNLIMITED, **settings)
        except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
            close = close_names(name, list(gymnasium.registry))
            raise UserError(f"gymnasium has no environment {name}{close}") from error
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"{name} needs packages that are not installed ({error}): {INSTALL}") from error
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            raise UserError(f"{name} has no such keyword: {error}") from error


def time_limit(name: str) -> int | None:
    """Return the number of steps after which gymnasium ends an environment, or None."""
    with needs_extra(name):
        import gymnasium

        try:
            found = gymnasium.spec(name).max_episode_steps
        except gymnasium.error.Error:
            return None  # the message is make's
    return int(found) if found is not None else None


def close_names(name: str, names: list[str]) -> str:
    """Return a question about similar names, or nothing."""
    by_lower = {each.lower(): each for each in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f"; similar: {', '.join(by_lower[each] for each in found)}" if found else ""
