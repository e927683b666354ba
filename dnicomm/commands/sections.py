"""Groups of a configuration: a ``_target_`` and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnicomm.commands.options import options
from dnicomm.commands.plugins import check_options, find, make
from dnicomm.commands.ranges import check_ranges
from dnicomm.commands.values import refusal
from dnicomm.errors import UserError

Section = Mapping[str, Any]


def options_in(section: Section) -> dict[str, Any]:
    """A group's keys without its ``_target_``."""
    return {key: value for key, value in section.items() if key != "_target_"}


def made(where: str, section: Section, kind: type) -> Any:
    """What a group describes.

    Raises:
        UserError: if it describes nothing of that kind.
    """
    maker = find(where, section.get("_target_"), kind)
    values = check_options(where, maker, options_in(section))
    check_ranges(where, maker, values)
    return make(where, maker, values)


def made_if_any(where: str, section: Section, kind: type) -> Any:
    """The same, or None without a ``_target_``."""
    if section.get("_target_") is not None:
        return made(where, section, kind)
    no_keys(where, section)
    return None


def merged(general: Section, own: Section) -> dict[str, Any]:
    """Own keys over general ones; another ``_target_`` starts from nothing."""
    if own.get("_target_", general.get("_target_")) != general.get("_target_"):
        return dict(own)
    return {**general, **own}


def own_mapping(where: str, own: Section, key: str) -> Section:
    """What an agent has of its own under ``key``."""
    value = own.get(key, {})
    if not isinstance(value, Mapping):
        raise refusal(f"{where}.{key}", value, f"a mapping of keys of `{key}`")
    return value


def no_keys(where: str, section: Section) -> None:
    """Check that a group without a ``_target_``, the option that does nothing, has no keys."""
    for key in options_in(section):
        known = ", ".join(option.name for option in options(where))
        raise UserError(
            f"{where}.{key}: there is no {where} to take it; choose one with {where}=OPTION "
            f"({known})"
        )
