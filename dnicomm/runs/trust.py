"""Whose code a configuration may import while it is built, in this process.

A configuration names classes by dotted paths. Where it is not the user's own, everything that
imports by such a name asks here first (:func:`check_module`), and looks at what it found before it
is called (:func:`check_object`): a module may hand on names of others, ``trusted_module.os``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dnicomm.errors import UserError, one_line, shortened

# of this package, what there is to name in a configuration
OWN = ("dnicomm.agents", "dnicomm.bench", "dnicomm.core", "dnicomm.envs", "dnicomm.sim")
# packages of the environments that dnicomm itself names, for an env.id
ENVIRONMENTS = ("dnicomm.envs", "gymnasium", "mpe2", "pettingzoo")

LONGEST = 200  # characters of a module's name
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_trusted: tuple[str, ...] | None = None  # None: everything is allowed


@contextmanager
def confined(packages: Iterable[str]) -> Iterator[None]:
    """Within it, a configuration may import dnicomm's own parts and ``packages`` alone."""
    global _trusted
    before, _trusted = _trusted, tuple(packages)
    try:
        yield
    finally:
        _trusted = before


def is_confined() -> bool:
    """Whether imports are confined now."""
    return _trusted is not None


def trusted() -> tuple[str, ...]:
    """Packages that the user named, where imports are confined."""
    return _trusted or ()


def lies_in(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of some packages or below one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_allowed(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is a dotted name that lies in some packages."""
    return _PACKAGE.fullmatch(module) is not None and lies_in(module, packages)


def check_module(what: str, module: str, own: Iterable[str] = OWN) -> None:
    """Check that a module may be imported.

    Args:
        what: the key and its value, for the message.
        module: its dotted name.
        own: packages that are allowed beside those that the user named.

    Raises:
        UserError: it may not.
    """
    if _trusted is not None and not is_allowed(module, (*own, *_trusted)):
        raise UserError(f"{one_line(what, 200)}: would import {one_line(module, 80)}, and "
                        f"{remedy([module])}")  # fmt: skip


def check_object(what: str, found: Any, own: Iterable[str] = OWN) -> None:
    """Check that something found in a module was defined where code may come from.

    Raises:
        UserError: it was not, or it doesn't say where.
    """
    if _trusted is not None:
        home = getattr(found, "__module__", None)
        check_module(what, home if isinstance(home, str) else f"a {type(found).__name__}", own)


def check_package(name: str) -> str:
    """Return the name of a package that a user may trust.

    Raises:
        UserError: it is no name of a package, or one that is no plug-in of anybody's.
    """
    if not _PACKAGE.fullmatch(name):
        raise UserError(f"--trust {name}: must be the name of a package, e.g. my_agents")
    if not is_trustable(name):
        raise UserError(f"--trust {name}: there are no agents or environments in it to be trusted")
    return name


def is_trustable(module: str) -> bool:
    """Whether a module may be somebody's plug-in: Python's own and dnicomm's inner ones are none.

    Nor is what is no name: a message tells what to type, and it could be anything for a shell.
    """
    own = module.partition(".")[0] in (*sys.stdlib_module_names, "dnicomm", "__main__")
    return len(module) <= LONGEST and _PACKAGE.fullmatch(module) is not None and not own


def remedy(modules: Iterable[str]) -> str:
    """How to allow some modules, for the end of a refusal."""
    modules = list(dict.fromkeys(modules))
    never = [one_line(m.partition(".")[0], 40) for m in modules if not is_trustable(m)]
    if never:
        return f"nothing allows that of {shortened(list(dict.fromkeys(never)), 8)}"
    packages = dict.fromkeys(module.partition(".")[0] for module in modules)
    flags = " ".join(f"--trust {package}" for package in packages)
    return f"that takes: {flags} (only if you would run code of whoever wrote it)"
