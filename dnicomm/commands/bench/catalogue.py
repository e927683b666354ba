"""The experiments there are, their groups and options, as their configurations say. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import yaml

from dnicomm.commands.options import Option, first_comment, manual, shipped
from dnicomm.commands.tree import Tree
from dnicomm.errors import UserError, nearest

PACKAGE = "dnicomm.configs.bench"
SHARED = "shared"  # its folder for what all experiments have in common


def experiments() -> dict[str, str]:
    """What ``dnicomm bench`` may be given: names, and each in one line."""
    names = sorted(folder.name for folder in files(PACKAGE).iterdir() if folder.is_dir())
    return {
        name: first_comment(manual(name, package=f"{PACKAGE}.{name}"))
        for name in names
        if name != SHARED and files(PACKAGE).joinpath(name, f"{name}.yaml").is_file()
    }


def tree(name: str) -> Tree:
    """What Hydra composes for an experiment.

    Raises:
        UserError: if there is none of that name.
    """
    known = experiments()
    if name not in known:
        raise UserError(f"{name}: there is no such experiment.{nearest(name, known)}")
    return Tree(
        package=f"{PACKAGE}.{name}",
        name=name,
        groups={group: partial(options, name, group) for group in _groups(name)},
        notes={"bench": name},
    )


def options(name: str, group: str) -> list[Option]:
    """The options of an experiment's group, its own and those of its family, sorted."""
    found = {
        option.name: option
        for package in reversed(_packages(name))
        for option in shipped(package, group)
    }
    return [found[option] for option in sorted(found)]


def explained(name: str) -> str:
    """An experiment's keys with their comments, and those that all experiments share."""
    tree(name)
    own = manual(name, package=f"{PACKAGE}.{name}")
    shared = manual(SHARED, package=f"{PACKAGE}.{SHARED}")
    return own + "\n" + shared.partition("\nhydra:")[0].partition("# @package _global_\n")[2]


def _packages(name: str) -> list[str]:
    """Where Hydra looks for an experiment's options, its own folder first."""
    config: Any = yaml.safe_load(manual(name, package=f"{PACKAGE}.{name}"))
    below = config.get("hydra", {}).get("searchpath", [])
    return [f"{PACKAGE}.{name}", *(path.removeprefix("pkg://") for path in below)]


def _groups(name: str) -> Iterator[str]:
    found = {
        folder.name
        for package in _packages(name)
        for folder in files(package).iterdir()
        if folder.is_dir() and not folder.name.startswith(("_", "."))
    }
    yield from sorted(found)
