"""The one exception for what a user can put right."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence

# packages whose frames are not the user's code, beside the standard library
_NOT_THE_USERS = {"dnicomm", "functorch", "gymnasium", "numpy", "pettingzoo", "torch"}
_STANDARD = os.path.dirname(os.__file__)


class UserError(Exception):
    """A mistake in a configuration, a plug-in or a file: one clear message, exit code 2.

    The message says what is wrong, where, and what is allowed; the command line prints it
    without a traceback.
    """


class UnknownKey(UserError):
    """A key that nothing takes.

    Args:
        key: the key.
        message: what is wrong with it, and which ones there are.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


def nearest(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'? Known: x, y."`` for messages about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return f"{hint} Known: {', '.join(known) or 'none'}."


def printable(text: str) -> str:
    """Text in which characters that steer a terminal are spelt out; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def one_line(text: str, most: int | None = None) -> str:
    """Text in one line, without characters that steer a terminal, and not longer than ``most``."""
    line = printable(" ".join(text.split()))
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def shortened(names: Sequence[str], most: int = 12) -> str:
    """``"a, b and 3 more"``: of many names, the first ones."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return ", ".join(names)


def error_line(error: BaseException) -> str:
    """``"KeyError: 'x'"``: an exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def user_frame(error: BaseException) -> str | None:
    """``" (my_agents.py:12)"``: where an exception passed through the user's own code last.

    That is the innermost frame outside dnicomm, torch, gymnasium, pettingzoo, numpy and the
    standard library; None where there is none. Paths are relative to the working folder.
    """
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module, path = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
        package = module.partition(".")[0]
        generated = path.startswith("<") and module != "__main__"  # by dataclasses and the like
        # somebody's own file may have the name of a standard module
        standard = package in sys.stdlib_module_names and path.startswith(_STANDARD)
        if not (generated or standard or package in _NOT_THE_USERS):
            found = f" ({_short_path(path)}:{line})"
    return found


def _short_path(path: str) -> str:
    folder = os.getcwd() + os.sep
    return path[len(folder) :] if path.startswith(folder) else path
