"""What environments give back from ``reset`` and ``step``, however they do it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dnicomm.envs.spaces import as_array
from dnicomm.errors import UserError

RESET = "observations, infos"
STEP = "observations, rewards, terminations, truncations, infos"
OLD_PETTINGZOO = (
    "The interface before PettingZoo 1.23 knew no infos at reset and no truncations: wrap the "
    "environment in a ParallelEnv that adds them"
)
OLD_GYM = (
    "An environment of the old Gym interface runs in Shimmy's wrapper: pip install "
    "'shimmy[gym-v21]', shimmy.GymV21CompatibilityV0(env=…)"
)


def tidy_infos(infos: Any, agents: Iterable[Any] = ()) -> dict[Any, dict[str, Any]]:
    """Return infos as a dict of a dict for each agent; None, lists and the like are empty ones.

    Args:
        agents: who has an entry in any case.
    """
    known: Mapping[Any, Any] = infos if isinstance(infos, Mapping) else {}
    names = dict.fromkeys([*agents, *known])
    return {name: _entry(known.get(name)) for name in names}


def _entry(info: Any) -> dict[str, Any]:
    return dict(info) if isinstance(info, Mapping) else {}


def unpack(where: str, method: str, found: Any, names: str, old: str = OLD_PETTINGZOO) -> Any:
    """What ``method`` returned, if it is a tuple of as many things as have ``names``.

    Raises:
        UserError: it is not; says what an environment of the old interface needs.
    """
    count = names.count(",") + 1
    if isinstance(found, tuple | list) and len(found) == count:
        return found
    if isinstance(found, tuple | list):
        what = f"{len(found)} things"
    else:
        what = f"a {type(found).__name__} alone"
    raise UserError(
        f"{where}{': ' if where else ''}{method} returned {what}; it must return ({names}). {old}"
    )


def reward_number(value: Any, agent: Any, when: str) -> float:
    """Return a reward as a number; an array of one number is one.

    Raises:
        UserError: it is none, or not finite.
    """
    try:
        array = as_array(value).astype(np.float64)
        reward = array.item() if array.size == 1 else math.nan
    except (TypeError, ValueError):
        reward = math.nan
    if not math.isfinite(reward):
        raise UserError(f"reward of {agent} {when} is {value!r}: must be a finite number")
    return reward
