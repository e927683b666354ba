"""The top keys of a configuration, their types and ranges."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from dnicomm.commands.loggers import check_logger
from dnicomm.commands.options import GROUPS
from dnicomm.commands.values import below, flag, mapping, number, refusal, shown, whole
from dnicomm.errors import UserError, nearest
from dnicomm.sim.feedback import MODES

Check = Callable[[str, Any], Any]
DISCRETE = ("gumbel", "dru")  # what may stand for message.discrete
WORLDS = ("own", "shared")  # for eval.worlds


def _feedback(where: str, value: Any) -> str:
    if not isinstance(value, str) or value not in MODES:
        raise UserError(f"{where}={shown(value)}: no such feedback.{nearest(str(value), MODES)}")
    return str(value)


def _discrete(where: str, value: Any) -> str | None:
    if value is not None and value not in DISCRETE:
        raise refusal(where, value, f"{', '.join(DISCRETE)} or null")
    return None if value is None else str(value)


def _normalise(where: str, value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "own":
        raise refusal(where, value, "true, own or false")
    return value if isinstance(value, bool) else str(value)


def check_threads(where: str, value: Any) -> int:
    """Torch's threads, at most as many as there are processors."""
    count: int = whole(where, value, least=1)
    return min(count, os.cpu_count() or count)  # more would only take each other's turns


def check_device(where: str, value: Any) -> str:
    """The name of a device, which this machine may lack."""
    if not isinstance(value, str) or value.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise refusal(where, value, "auto, cpu, cuda or cuda:N")
    return value


def _group(where: str, value: Any) -> dict[str, Any]:
    return mapping(where, value, f"one of its options (dnicomm list {where}) or a mapping")


def _agents(where: str, value: Any) -> dict[str, Any]:
    agents = mapping(where, value, "a mapping from agents' names to keys of `agent`")
    return {name: mapping(f"{where}.{name}", own, "a mapping of keys of `agent`")
            for name, own in agents.items()}  # fmt: skip


def section(checks: Mapping[str, Check], where: str, value: Any) -> dict[str, Any]:
    """A mapping with just the keys of ``checks``, each checked."""
    return checked(mapping(where, value, f"a mapping with {', '.join(checks)}"), checks, where)


def _evaluation(where: str, value: Any) -> dict[str, Any]:
    given = {**EVALUATION_ADDED, **value} if isinstance(value, Mapping) else value
    return section(EVALUATION, where, given)


def _worlds(where: str, value: Any) -> str:
    if value not in WORLDS:
        raise refusal(where, value, " or ".join(WORLDS))
    return str(value)


_optional = partial(whole, least=1, or_null=True)
_positive = partial(whole, least=1)
EVALUATION: dict[str, Check] = {
    "every": _positive,
    "episodes": partial(whole, least=0),
    "num_worlds": _optional,
    "worlds": _worlds,
}
EVALUATION_ADDED = {"worlds": "own"}  # as ADDED below
CHECKS: dict[str, Check] = {
    **{group: _group for group in GROUPS if group != "recipe"},
    "agents": _agents,
    "message": partial(
        section, {"size": _positive, "normalise": _normalise, "discrete": _discrete}
    ),
    "share_parameters": flag,
    "feedback": _feedback,
    "feedback_share": partial(number, high=1.0),
    "gradient_scale": number,
    "window": _optional,
    "exact_window": _optional,
    "gamma": partial(number, high=1.0),
    "gae_lambda": partial(number, high=1.0),
    "num_worlds": _positive,
    "steps": _positive,
    "eval": _evaluation,
    "seed": partial(whole, least=0),
    "device": check_device,
    "profile": flag,
    "threads": check_threads,
    "logger": check_logger,
}
ADDED = {"logger": None}  # keys that an older run lacks, and what it did
# what a run notes beside its configuration: the options chosen, and what the user had typed
NOTES = ("choices", "overrides")


def check_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its own keys checked; what is inside its groups is not.

    Raises:
        UserError: if a key is unknown, missing, of the wrong type or out of range.
    """
    return checked(
        {key: value for key, value in (ADDED | dict(config)).items()
         if key not in (*NOTES, "recipe")}, CHECKS
    )  # fmt: skip


def unknown_key(key: str, known: Iterable[str]) -> UserError:
    """The complaint about a key that there is not, with the nearest ones."""
    return UserError(f"{key}: there is no such key.{nearest(key.rpartition('.')[2], known)}")


def checked(
    values: Mapping[str, Any], checks: Mapping[str, Check], where: str = ""
) -> dict[str, Any]:
    """``values`` with each key checked.

    Args:
        values: what is under ``where``; "": at the top.
        checks: by key.
        where: their key.

    Raises:
        UserError: if one is unknown, missing, of the wrong type or out of range.
    """
    for key in values:
        if key not in checks:
            raise unknown_key(below(where, key), checks)
    for key in checks:
        if key not in values:
            raise UserError(f"{below(where, key)} has to be given")
    return {key: check(below(where, key), values[key]) for key, check in checks.items()}
