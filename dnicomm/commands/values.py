"""Values of a configuration, checked: each complaint names the key and what is allowed."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from dnicomm.errors import UserError

MISSING = "???"  # how a configuration says that a value has to be given


def whole(where: str, value: Any, least: int, or_null: bool = False) -> Any:
    """An integer of at least ``least``; ``1e4`` will do."""
    if value is None and or_null:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        null = ", or null" if or_null else ""
        raise refusal(where, value, f"a whole number of at least {least}{null}")
    return value


def number(
    where: str, value: Any, low: float = 0.0, high: float = math.inf, above: bool = False
) -> float:
    """A finite number from ``low`` (or above it, if ``above``) to ``high``."""
    inside = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (low < value if above else low <= value)
        and value <= high
    )
    if not inside:
        least = f"above {low:g}" if above else f"of at least {low:g}"
        allowed = f"a number {least}" if high == math.inf else f"a number from {low:g} to {high:g}"
        raise refusal(where, value, allowed)
    return float(value)


def flag(where: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise refusal(where, value, "true or false")
    return value


def mapping(where: str, value: Any, of: str) -> dict[str, Any]:
    """A mapping with names for keys; ``of`` says of what."""
    if not isinstance(value, Mapping):
        raise refusal(where, value, of)
    return {str(key): item for key, item in value.items()}


def below(where: str, key: str) -> str:
    """A key's full name; "" is the top."""
    return f"{where}.{key}" if where else key


def refusal(where: str, value: Any, allowed: str) -> UserError:
    """``key=value: must be …``"""
    if value == MISSING:
        return UserError(f"{where} has to be given: {where}=…, {allowed}")
    return UserError(f"{where}={shown(value)}: must be {allowed}")


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(shown(item) for item in value) + "]"
    return str(value)


# -- against a type annotation ------------------------------------------------------------------

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def conform(where: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotation ``hint`` asks; what is no plain type is let through.

    Raises:
        UserError: if the value is of another type.
    """
    if not _plain(hint):
        return value
    for one in _alternatives(hint):
        fits, converted = _convert(value, one)
        if fits:
            return converted
    raise refusal(where, value, " or ".join(dict.fromkeys(_name(h) for h in _alternatives(hint))))


def takes_list(hint: Any) -> bool:
    """Whether a parameter so annotated may take a list as its one value."""
    return not all(h in _NAMES or h is type(None) for h in _alternatives(hint))


def _alternatives(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def _plain(hint: Any) -> bool:
    """Whether the annotation is made of numbers, text, lists, mappings and None alone."""
    return all(
        h in _NAMES or h is type(None) or _is(h, Mapping) or _is(h, Sequence)
        for h in _alternatives(hint)
    )


def _is(hint: Any, kind: type) -> bool:
    origin = typing.get_origin(hint) or hint
    return isinstance(origin, type) and origin is not str and issubclass(origin, kind)


def _convert(value: Any, hint: Any) -> tuple[bool, Any]:
    if hint is type(None):
        return value is None, None
    if hint is bool:
        return isinstance(value, bool), value
    if isinstance(value, bool):
        return False, value
    if hint is int:
        if isinstance(value, float) and value.is_integer():
            return True, int(value)
        return isinstance(value, int), value
    if hint is float:
        return isinstance(value, int | float), value
    if hint is str:
        return isinstance(value, str), value
    if _is(hint, Mapping):
        return isinstance(value, Mapping), value
    if not isinstance(value, list | tuple):
        return False, value
    parts = [part for part in typing.get_args(hint) if part is not Ellipsis]
    items = []
    for i, item in enumerate(value):
        if parts and _plain(parts[0]):
            results = [_convert(item, h) for h in _alternatives(parts[min(i, len(parts) - 1)])]
            item = next((converted for fits, converted in results if fits), item)
            if not any(fits for fits, _ in results):
                return False, value
        items.append(item)
    return True, tuple(items) if _is(hint, tuple) else items


def _name(hint: Any) -> str:
    if hint in _NAMES:
        return _NAMES[hint]
    if hint is type(None):
        return "null"
    if _is(hint, Mapping):
        return "a mapping {name: value}"
    parts = [part for part in typing.get_args(hint) if part is not Ellipsis]
    return f"a list [{_name(parts[0])}, …]" if parts and _plain(parts[0]) else "a list […]"
