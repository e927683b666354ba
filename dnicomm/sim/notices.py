"""Lines for the user on stderr, beside what a command prints."""

from __future__ import annotations

import contextlib
import sys

_shown: set[str] = set()  # by this process, of what is said once


def notify(text: str) -> None:
    """Print a line on stderr; never fail for want of one."""
    with contextlib.suppress(OSError, ValueError):  # closed, or a pipe without a reader
        print(f"dnicomm: {text}", file=sys.stderr, flush=True)


def notify_once(text: str) -> None:
    """Print a line on stderr, unless this process has printed the same before."""
    if text not in _shown:
        _shown.add(text)
        notify(text)
