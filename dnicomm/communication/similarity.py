"""Topographic similarity: whether messages with like meanings are alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from dnicomm.communication.dependence import PERMUTATIONS, Estimate, Groups, against_chance
from dnicomm.communication.grouping import Order, spread

Distance = str | Callable[[NDArray[Any], NDArray[Any]], float]
MOST_PAIRS = 100_000


def topographic_similarity(
    meanings: NDArray[Any],
    messages: NDArray[Any],
    rng: np.random.Generator,
    meaning_distance: Distance = "euclidean",
    message_distance: Distance = "euclidean",
    most_pairs: int = MOST_PAIRS,
    permutations: int = PERMUTATIONS,
    groups: Groups = None,
) -> Estimate:
    """Spearman correlation of distances between meanings and between messages, over all pairs.

    Brighton and Kirby (2006); Lazaridou et al. (2018). From -1 to 1. Chance is that of Mantel's
    test (1967): messages are dealt out anew among the meanings.

    Args:
        meanings: ``[n, a]``. Attributes of which each is equal or not belong one-hot side by side,
            where the Euclidean distance orders pairs as Hamming's does, or as numbers with
            ``meaning_distance="hamming"``.
        messages: ``[n, d]``.
        rng: of the sample and the permutations.
        meaning_distance: a name that ``scipy.spatial.distance.pdist`` knows, or a function of two
            rows.
        message_distance: the same.
        most_pairs: with more pairs than this, a sample of the rows is taken.
        permutations: how many; with none, chance is nan.
        groups: ``[n]`` which rows belong together (``grouping.py``); None: none do.

    Returns:
        nan where all meanings or all messages are equal, or a distance is undefined.

    Raises:
        ValueError: if there are not as many of one as of the other.
    """
    if len(meanings) != len(messages):
        raise ValueError(f"as many meanings as messages: {len(meanings)} and {len(messages)}")
    most = int((1 + np.sqrt(1 + 8 * most_pairs)) / 2)
    if len(meanings) > most:
        chosen = spread(np.arange(len(meanings)) if groups is None else groups, most, rng)
        meanings, messages = meanings[chosen], messages[chosen]
        groups = None if groups is None else groups[chosen]
    count = len(meanings)
    if count < 3:
        return Estimate.none(count)
    x = _ranks(meanings, meaning_distance)
    y = _ranks(messages, message_distance)
    if x is None or y is None:
        return Estimate.none(count)

    def correlation(order: Order) -> float:
        return float((x[np.ix_(order, order)] * y).sum() / 2)  # each pair stands there twice

    return against_chance(correlation, count, rng, permutations, groups)


def _ranks(rows: NDArray[Any], distance: Distance) -> NDArray[np.float64] | None:
    """Ranks of the pairs' distances as a matrix ``[n, n]``, with mean 0 and length 1."""
    far = pdist(np.asarray(rows, dtype=np.float64), distance)
    if not np.isfinite(far).all() or (far == far[0]).all():
        return None
    ranks = rankdata(far)
    ranks -= ranks.mean()
    found: NDArray[np.float64] = squareform(ranks / np.linalg.norm(ranks), checks=False)
    return found
