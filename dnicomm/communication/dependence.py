"""How much two things say of each other, beside what chance alone would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.communication.coding import leading_components
from dnicomm.communication.grouping import Order, deal
from dnicomm.communication.information import codes, information_of_counts
from dnicomm.communication.neighbours import (
    distances,
    information_of_vector_and_symbol,
    information_of_vectors,
)

PERMUTATIONS = 100
FEWEST = 20  # samples, below which nothing is said
COMPONENTS = 4  # of a vector: neighbours mean little in many dimensions

Side = NDArray[Any]  # symbols [n], whole numbers; or vectors [n, d]
Groups = NDArray[Any] | None  # [n]


@dataclass(frozen=True)
class Estimate:
    """What was found, and what is found where one side is shuffled.

    Attributes:
        value: what was found; nan where it is undefined.
        chance: its mean over the permutations.
        chance_95: their 95th percentile: chance alone exceeds it in one case in twenty.
        samples: how many there were.
    """

    value: float
    chance: float
    chance_95: float
    samples: int

    @staticmethod
    def none(samples: int) -> Estimate:
        """Where nothing can be said."""
        nothing = float("nan")
        return Estimate(nothing, nothing, nothing, samples)


def against_chance(
    statistic: Callable[[Order], float],
    samples: int,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
    groups: Groups = None,
) -> Estimate:
    """``statistic`` of the samples in order, and with one side shuffled.

    Args:
        statistic: of the order ``[n]`` in which that side is taken.
        samples: n.
        rng: of the permutations.
        permutations: how many; with none, chance is nan.
        groups: ``[n]`` which samples belong together (``grouping.py``); None: none do.
    """
    value = statistic(np.arange(samples))
    if not np.isfinite(value):
        return Estimate.none(samples)
    if permutations == 0:
        return Estimate(value, float("nan"), float("nan"), samples)
    shuffled = [statistic(deal(groups, samples, rng)) for _ in range(permutations)]
    return Estimate(value, float(np.mean(shuffled)), float(np.quantile(shuffled, 0.95)), samples)


def dependence(
    x: Side,
    y: Side,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
    groups: Groups = None,
) -> Estimate:
    """Mutual information of ``n`` pairs in nats, corrected for its bias.

    Symbols with symbols by counting, with the correction of Miller and Madow; where a side is a
    vector, by nearest neighbours. Of a vector with more than four dimensions only its four leading
    principal components are taken: what they say is a lower bound of what the vector says.

    Args:
        x: symbols ``[n]`` (whole numbers) or vectors ``[n, d]``.
        y: the same.
        rng: of the permutations.
        permutations: how many; with none, chance is nan.
        groups: ``[n]`` which pairs belong together (``grouping.py``); None: none do.

    Returns:
        nan where there are fewer than twenty pairs; 0 where one side never changes.

    Raises:
        ValueError: if there are not as many of one as of the other.
    """
    count = len(x)
    if len(y) != count:
        raise ValueError(f"pairs need as many of one as of the other: {count} and {len(y)}")
    if count < FEWEST:
        return Estimate.none(count)
    if _constant(x) or _constant(y):
        return Estimate(0.0, 0.0, 0.0, count)
    return against_chance(_statistic(x, y, rng), count, rng, permutations, groups)


def _statistic(x: Side, y: Side, rng: np.random.Generator) -> Callable[[Order], float]:
    """Mutual information as a function of the order in which ``x`` is taken."""
    if x.ndim == 1 and y.ndim == 1:
        (a, rows), (b, columns) = codes(x), codes(y)

        def counted(order: Order) -> float:
            table = np.bincount(a[order] * columns + b, minlength=rows * columns)
            return information_of_counts(table.reshape(rows, columns), corrected=True)

        return counted
    if x.ndim == 2 and y.ndim == 2:
        far_x, far_y = (distances(leading_components(side, COMPONENTS), rng) for side in (x, y))
        return lambda order: information_of_vectors(far_x[np.ix_(order, order)], far_y)
    vectors, symbols = (x, y) if x.ndim == 2 else (y, x)
    far = distances(leading_components(vectors, COMPONENTS), rng)
    return lambda order: information_of_vector_and_symbol(far, symbols[order])


def _constant(side: Side) -> bool:
    return bool((side == side[:1]).all())
