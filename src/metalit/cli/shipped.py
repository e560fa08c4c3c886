"""The configuration files shipped with metalit: ``metalit:omniglot/maml`` is ``configs/omniglot/maml.yaml``."""

from pathlib import Path

from metalit.cli.values import any_of, nearest

PREFIX = "metalit:"
PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Return the folder of the shipped files: inside an installed package, or beside ``src`` in a checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "configs"


def names() -> list[str]:
    """Return all names without the prefix: ``omniglot/maml``."""
    return sorted(path.relative_to(folder()).with_suffix("").as_posix() for path in folder().glob("*/*.yaml"))


def config_path(name: str) -> Path:
    """Return the path of a configuration file: the user's own, or the one of ``metalit:`` and a shipped name.

    Raises:
        ValueError: no shipped file has this name; lists those of the same data set, or all data sets.
    """
    if not name.startswith(PREFIX):
        return Path(name)
    asked, known = name.removeprefix(PREFIX).removesuffix(".yaml"), names()
    if asked in known:
        return folder() / f"{asked}.yaml"
    # A bare "metalit:" or "metalit:omniglot" is how users list the names, so the message must have them.
    group, groups = asked.partition("/")[0], sorted({each.partition("/")[0] for each in known})
    same = [each for each in known if each.startswith(f"{group}/")]
    near = nearest(asked, known) if asked else None
    hint = f"did you mean {PREFIX}{near}? " if near else ""
    listed = any_of([PREFIX + each for each in same or groups])
    there = f"there are {listed}" if same else f"there are files in {listed}; name one to list them"
    raise ValueError(f"{name} is none of the files that metalit comes with; {hint}{there}")
