"""Values of an experiment's keys: one clear message where one is not allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dnicomm.errors import UserError, nearest


def just(where: str, given: Mapping[str, Any], keys: Sequence[str]) -> None:
    """No other ``keys`` than these, and all of them."""
    for key in given:
        if key not in keys:
            raise UserError(f"{where}.{key}: there is no such key.{nearest(key, keys)}")
    for key in keys:
        if key not in given:
            raise UserError(f"{where}.{key} has to be given (keys: {', '.join(keys)})")


def choice(key: str, value: Any, known: Iterable[str]) -> str:
    """One of a few names."""
    known = list(known)
    if value not in known:
        raise UserError(f"{key}={value}: there is no such {key}.{nearest(str(value), known)}")
    return str(value)


def whole(key: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise UserError(f"{key}={value}: must be a whole number of at least {least}{upto}")
    return int(value)


def number(
    key: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
) -> float:
    """A finite number from ``least`` to ``most``, greater than ``above``."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not least <= value <= most or (above is not None and value <= above):
        bounds = [f"of at least {least:g}"] if math.isfinite(least) else []
        bounds += [f"above {above:g}"] if above is not None else []
        bounds += [f"of at most {most:g}"] if math.isfinite(most) else []
        raise UserError(f"{key}={value}: must be a number {' and '.join(bounds)}".rstrip())
    return float(value)


def flag(key: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UserError(f"{key}={value}: must be true or false")
    return value


def sizes(key: str, value: Any) -> list[int]:
    """A list of whole numbers of at least 1, maybe empty."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UserError(f"{key}={value}: must be a list of whole numbers of at least 1")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int) or item < 1:
            raise UserError(f"{key}={value}: must be a list of whole numbers of at least 1")
    return list(value)
