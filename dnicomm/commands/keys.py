"""The top keys of a configuration, their types and ranges."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from dnicomm.commands.options import GROUPS
from dnicomm.commands.values import flag, mapping, number, refusal, whole
from dnicomm.errors import UserError, nearest
from dnicomm.sim.feedback import MODES

Check = Callable[[str, Any], Any]


def _feedback(where: str, value: Any) -> str:
    if value not in MODES:
        raise UserError(f"{where}={value}: no such feedback.{nearest(str(value), MODES)}")
    return str(value)


def _threads(where: str, value: Any) -> int:
    count: int = whole(where, value, least=1)
    return min(count, os.cpu_count() or count)  # more would only take each other's turns


def _device(where: str, value: Any) -> str:
    if not isinstance(value, str) or value.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise refusal(where, value, "auto, cpu, cuda or cuda:N")
    return value


def _group(where: str, value: Any) -> dict[str, Any]:
    return mapping(where, value, f"one of its options (dnicomm list {where}) or a mapping")


def _agents(where: str, value: Any) -> dict[str, Any]:
    agents = mapping(where, value, "a mapping from agents' names to keys of `agent`")
    return {name: mapping(f"{where}.{name}", own, "a mapping of keys of `agent`")
            for name, own in agents.items()}  # fmt: skip


def _section(checks: Mapping[str, Check], where: str, value: Any) -> dict[str, Any]:
    section = mapping(where, value, f"a mapping with {', '.join(checks)}")
    return _checked(section, checks, f"{where}.")


_optional = partial(whole, least=1, or_null=True)
_positive = partial(whole, least=1)
CHECKS: dict[str, Check] = {
    **{group: _group for group in GROUPS if group != "recipe"},
    "agents": _agents,
    "message": partial(_section, {"size": _positive, "normalise": flag}),
    "feedback": _feedback,
    "feedback_share": partial(number, high=1.0),
    "gradient_scale": number,
    "window": _optional,
    "exact_window": _optional,
    "gamma": partial(number, high=1.0),
    "num_worlds": _positive,
    "steps": _positive,
    "eval": partial(_section, {"every": _positive, "episodes": _positive, "num_worlds": _optional}),
    "seed": partial(whole, least=0),
    "device": _device,
    "threads": _threads,
}
# what a run notes beside its configuration: the options chosen, and what the user had typed
NOTES = ("choices", "overrides")


def check_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its own keys checked; what is inside its groups is not.

    Raises:
        UserError: if a key is unknown, missing, of the wrong type or out of range.
    """
    return _checked(
        {key: value for key, value in config.items() if key not in (*NOTES, "recipe")}, CHECKS
    )


def unknown_key(key: str, known: Iterable[str]) -> UserError:
    """The complaint about a key that there is not, with the nearest ones."""
    return UserError(f"{key}: there is no such key.{nearest(key.rpartition('.')[2], known)}")


def _checked(
    values: Mapping[str, Any], checks: Mapping[str, Check], prefix: str = ""
) -> dict[str, Any]:
    for key in values:
        if key not in checks:
            raise unknown_key(f"{prefix}{key}", checks)
    for key in checks:
        if key not in values:
            raise UserError(f"{prefix}{key} has to be given")
    return {key: check(f"{prefix}{key}", values[key]) for key, check in checks.items()}
