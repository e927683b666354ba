"""The one exception for what a user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


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
