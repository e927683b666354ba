"""Entropy and mutual information of symbols, in nats.

Counted frequencies make entropies too small and mutual information too large, by about
``(|X| - 1)(|Y| - 1) / 2n`` nats for ``n`` pairs. ``corrected`` values have Miller and Madow's term
``(K - 1) / 2n`` added to each entropy, where K symbols were seen (Miller, 1955); they may come out
a little below zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]


def codes(symbols: ArrayLike) -> tuple[Counts, int]:
    """Symbols ``[n]`` as numbers from 0 on, and how many different ones there are."""
    values = np.asarray(symbols)
    if values.ndim != 1:
        raise ValueError(f"symbols are one a sample, [n]; these have shape {values.shape}")
    found, inverse = np.unique(values, return_inverse=True)
    return inverse.astype(np.int64), len(found)


def contingency(x: ArrayLike, y: ArrayLike) -> Counts:
    """How often each symbol of ``x`` came with each of ``y``, ``[X, Y]``, for ``n`` pairs.

    Raises:
        ValueError: if there are not as many of one as of the other.
    """
    (a, rows), (b, columns) = codes(x), codes(y)
    if len(a) != len(b):
        raise ValueError(f"pairs need as many of one as of the other: {len(a)} and {len(b)}")
    return np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns)


def entropy(symbols: ArrayLike, corrected: bool = True) -> float:
    """Entropy of symbols ``[n]``; nan where there are none."""
    values, found = codes(symbols)
    return entropy_of_counts(np.bincount(values, minlength=found), corrected)


def entropy_of_counts(counts: NDArray[Any], corrected: bool = False) -> float:
    """Entropy of what was counted, an array of any shape; nan where nothing was."""
    seen = counts[counts > 0].astype(np.float64)
    total = seen.sum()
    if total == 0:
        return float("nan")
    frequency = seen / total
    plain = -(frequency * np.log(frequency)).sum()
    return float(plain + (len(seen) - 1) / (2 * total) if corrected else plain + 0.0)


def mutual_information(x: ArrayLike, y: ArrayLike, corrected: bool = True) -> float:
    """Mutual information of ``n`` pairs of symbols; nan where there are none."""
    return information_of_counts(contingency(x, y), corrected)


def information_of_counts(counts: NDArray[Any], corrected: bool = False) -> float:
    """Mutual information of a table ``[X, Y]`` of counts or probabilities; nan if it is empty."""
    sums = (counts.sum(1), counts.sum(0), counts)
    x, y, both = (entropy_of_counts(part, corrected) for part in sums)
    found = x + y - both
    return found if corrected else max(found, 0.0) if not np.isnan(found) else found
