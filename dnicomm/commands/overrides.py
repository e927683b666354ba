"""The words of a command that Hydra composes, before Hydra reads them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser

from dnicomm.commands.tree import Tree
from dnicomm.errors import UserError, nearest


def prepare(arguments: Sequence[str], tree: Tree) -> list[str]:
    """Arguments as Hydra shall see them.

    Raises:
        UserError: if there is no such flag.
    """
    arguments = _flags_apart(arguments)
    _check_flags(arguments)
    return ["++" + word if tree.is_open(word) else word for word in arguments]


def plain(overrides: Sequence[str], tree: Tree) -> list[str]:
    """Overrides as a user would write them."""
    return [
        word.removeprefix("++") if tree.is_open(word.removeprefix("++")) else word
        for word in overrides
    ]


def _flags_apart(arguments: Sequence[str]) -> list[str]:
    """Flags before the overrides, wherever they stood; argparse takes no words after a flag."""
    actions = {f: a for a in get_args_parser()._actions for f in a.option_strings}
    first: list[str] = []
    words: list[str] = []
    last: list[str] = []  # a flag that may have a value or not would take the next word for it
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        action = actions.get(word)
        if action is None:
            (first if word.startswith("-") else words).append(word)
        elif action.nargs == "?":
            last.append(word)
            if rest and rest[0] in (action.choices or ()):
                last.append(rest.pop(0))
        else:
            first.append(word)
            if action.nargs is None and rest:
                first.append(rest.pop(0))
    return [*first, *words, *last]


def _check_flags(arguments: Sequence[str]) -> None:
    parser = get_args_parser()
    known = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> None:
        flags = [word for word in arguments if word.startswith("-")]
        unknown = [word for word in flags if word.partition("=")[0] not in known]
        if "unrecognized" in message and unknown:
            long = [flag for flag in known if flag.startswith("--")]
            raise UserError(f"{unknown[0]}: there is no such flag.{nearest(unknown[0], long)}")
        raise UserError(message)

    parser.error = refuse  # type: ignore[method-assign,assignment]
    try:
        parser.parse_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
