"""Whether an environment does the same again from the same seed."""

from __future__ import annotations

import copy as copying
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnicomm.envs.copies import Copy
from dnicomm.envs.space_seeds import SpaceSeeds
from dnicomm.sim.random import generator, global_seed

SEED = 0


def find_difference(copy: Copy, seeds: SpaceSeeds) -> str | None:
    """Reset ``copy`` twice with one seed; say whose observations differ, None if nobody's do.

    Global generators and spaces are seeded each time, as in a run, and then the seed is passed on:
    what still differs is drawn from generators of the environment's own.

    Args:
        copy: one environment.
        seeds: of its spaces.

    Raises:
        UserError: what the environment raises.
    """
    first, second = _reset(copy, seeds), _reset(copy, seeds)
    for agent in {**first, **second}:
        if agent not in first or agent not in second or not _equal(first[agent], second[agent]):
            return (
                f"{copy.where}: two resets with one seed differ in what {agent} observes. It draws "
                "random numbers that no seed reaches, so no run can be repeated or resumed exactly"
            )
    return None


def _reset(copy: Copy, seeds: SpaceSeeds) -> dict[Any, Any]:
    """What agents observe after a reset."""
    seeds.draw(generator(SEED, "repeat"))
    with global_seed(SEED, "repeat"):
        copy.reset(SEED)
    try:  # an environment may write its next observation into the same array
        return copying.deepcopy(dict(copy.observations))
    except Exception:  # of a kind that can't be copied
        return {}


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        same = first.keys() == second.keys()
        return same and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    try:
        one, other = np.asarray(first), np.asarray(second)
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    except Exception:  # nothing that numpy can compare
        return True
