"""A run folder's configuration built only as far as its origin allows.

What a run of this user wrote may import what it names. What came from elsewhere may import
dnicomm's own parts and environments, and packages that the user names with ``--trust``: all names
are looked through before the first one is imported, and imports are confined while it is at work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from dnicomm.errors import UserError, one_line, shortened
from dnicomm.runs import RunFolder, trust

LONGEST = 60  # characters of a value in a message
WRITTEN = ("checkpoints", "recordings", "tensorboard", "wandb")  # folders that a run writes into


@dataclass(frozen=True)
class Import:
    """What a configuration would import: ``module``, because of ``key=value``."""

    module: str
    key: str
    value: str

    def __str__(self) -> str:
        module, key, value = (one_line(x, LONGEST) for x in (self.module, self.key, self.value))
        return f"{module} ({key}={value})"


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--trust`` to a command's."""
    parser.add_argument(
        "--trust", metavar="PACKAGE", type=trust.check_package, action="append", default=[],
        help="of a run that was not written here: import this package, too, and so run its "
        "author's code; once for each",
    )  # fmt: skip


def confine(run: RunFolder, packages: Sequence[str]) -> AbstractContextManager[None]:
    """Within the context returned, a run's configuration may be built.

    Args:
        packages: that the user trusts.

    Raises:
        UserError: it is not the user's own and would import something else; names all of it.
    """
    if run.is_own:
        return nullcontext()
    foreign = [found for found in imports(run.config) if not _is_allowed(found, packages)]
    if foreign:
        names = shortened(list(dict.fromkeys(str(found) for found in foreign)), 8)
        raise UserError(
            f"{run.path}: {run.foreign}. It would import {names}; "
            f"{trust.remedy(found.module for found in foreign)}"
        )
    return trust.confined(packages)


def check_links(run: RunFolder) -> None:
    """Check that going on with a stranger's run writes nothing outside of its folder.

    Raises:
        UserError: a folder that it writes into is a link.
    """
    for name in WRITTEN if not run.is_own else ():
        if (run.path / name).is_symlink():
            raise UserError(f"{run.path / name}: is a link, and {run.foreign}: nothing is written")


def imports(config: Mapping[str, Any]) -> Iterator[Import]:
    """All that a configuration would import, by its keys ``_target_`` and its ``env.id``."""
    rest: list[tuple[str, Any]] = [("", config)]
    while rest:
        where, value = rest.pop()
        if isinstance(value, Mapping):
            rest += [
                (f"{where}.{key}" if where else str(key), below) for key, below in value.items()
            ]
        elif isinstance(value, list | tuple):
            rest += [(f"{where}.{place}", below) for place, below in enumerate(value)]
        elif isinstance(value, str) and where.rpartition(".")[2] == "_target_":
            module = value.rpartition(":" if ":" in value else ".")[0]
            yield Import(module or value, where, value)
    env = config.get("env")
    named = env.get("id") if isinstance(env, Mapping) else None
    if isinstance(named, str) and isinstance(env, Mapping):
        path, colon, _ = named.partition(":")
        registered = not colon if str(env.get("_target_")).endswith("GymEnv") else "/" in named
        if not registered:
            yield Import(path, "env.id", named)


def _is_allowed(found: Import, packages: Sequence[str]) -> bool:
    own = trust.ENVIRONMENTS if found.key == "env.id" else trust.OWN
    return trust.is_allowed(found.module, (*own, *packages))
