"""Command lines of the commands that don't go through Hydra."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from dnicomm.errors import UserError, nearest


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            name = unknown[1].partition("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            message = f"{name}: there is no such flag.{nearest(name, known)}"
        raise UserError(f"{message} ({' '.join(self.format_usage().split())})")


def at_least_one(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)
