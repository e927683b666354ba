"""Samples that belong together, as all that was said in one world and episode does.

They are no independent samples: a world's messages are alike, and so is what is done there. Both
sides of a pair then seem to depend on each other, and shuffling single samples would not show it.
So where groups are given, samples are spread over them, and chance deals one group's messages to
another group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.int64]


def spread(groups: NDArray[Any], most: int, rng: np.random.Generator) -> Order:
    """At most ``most`` of the samples, in their order: one of each group, then a second, …

    Args:
        groups: ``[n]`` the group of each sample.
    """
    if len(groups) <= most:
        return np.arange(len(groups))
    mixed = rng.permutation(len(groups))
    turn = np.empty(len(groups), dtype=np.int64)
    turn[mixed] = _rank_in_group(groups[mixed])
    # among those whose turn comes together, chance decides
    first = np.lexsort((rng.random(len(groups)), turn))[:most]
    return np.sort(first)


def deal(groups: NDArray[Any] | None, samples: int, rng: np.random.Generator) -> Order:
    """An order of the samples ``[n]`` in which one side says nothing of the other.

    Without groups, or where each sample is its own, a permutation. With groups, each gets the
    samples of another, in their order from a random one on, so often as it needs them. With one
    group only, its own samples are turned round by a random distance.
    """
    if groups is None:
        return rng.permutation(samples)
    names, size = np.unique(groups, return_counts=True)
    if len(names) == samples:
        return rng.permutation(samples)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(size)[:-1])
    circle = rng.permutation(len(names))
    order = np.empty(samples, dtype=np.int64)
    for own, other in zip(circle, np.roll(circle, 1), strict=True):
        source = members[other]
        start = rng.integers(len(source))
        order[members[own]] = source[(start + np.arange(len(members[own]))) % len(source)]
    return order


def _rank_in_group(groups: NDArray[Any]) -> Order:
    """How many of its group come before each sample, ``[n]``."""
    by_group = np.argsort(groups, kind="stable")
    ordered = groups[by_group]
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    start = np.maximum.accumulate(np.where(begins, np.arange(len(groups)), 0))
    rank = np.empty(len(groups), dtype=np.int64)
    rank[by_group] = np.arange(len(groups)) - start
    return rank
