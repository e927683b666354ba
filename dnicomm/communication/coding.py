"""Vectors as symbols: as those that they are, by bins, or by the nearest of a few centres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

Vectors = NDArray[Any]  # [n, d]
Symbols = NDArray[np.int64]

TOLERANCE = 1e-5  # of a standard deviation: what rounding errors may tell apart
MOST_SYMBOLS = 64
BINS = 8


def as_symbols(
    vectors: Vectors, most: int = MOST_SYMBOLS, groups: NDArray[Any] | None = None
) -> tuple[Symbols, Vectors] | None:
    """Vectors ``[n, d]`` as symbols ``[n]``, and which vector ``[K, d]`` each symbol is.

    Vectors that are equal but for rounding errors are one symbol.

    Args:
        most: K, at most.
        groups: ``[n]`` which vectors belong together (``grouping.py``): what one group repeats
            comes once. None, or one group: each vector counts.

    Returns:
        None where they are no symbols: there are more than ``most`` different ones, or they are
        not one-hot and each came fewer than four times on average.
    """
    if len(vectors) == 0:
        return None
    step = TOLERANCE * (float(vectors.std()) or 1.0)
    grid, first, inverse = np.unique(
        np.round(vectors / step), axis=0, return_index=True, return_inverse=True
    )
    if len(grid) > 16 * most:  # rounding errors split no symbol into so many
        return None
    near = cdist(grid, grid, "chebyshev") < 1.5  # a rounding error may lie across a grid's edge
    count, symbol = connected_components(near, directed=False)
    symbols = symbol[inverse.reshape(-1)].astype(np.int64)
    came = len(vectors)
    if groups is not None and len(np.unique(groups)) > 1:
        of_group = np.unique(groups, return_inverse=True)[1]
        came = len(np.unique(of_group * count + symbols))
    if count > most or (came < 4 * count and not is_one_hot(vectors)):
        return None
    found = first[np.unique(symbol, return_index=True)[1]]
    return symbols, vectors[found]


def as_words(vectors: Vectors, most: int = BINS) -> Symbols | None:
    """Messages ``[n, d]`` as words ``[n, L]`` over one alphabet.

    A one-hot vector is a word of one symbol. Vectors whose numbers take at most ``most`` values
    altogether, such as bits, are words of d symbols.

    Returns:
        None where they are neither.
    """
    if vectors.size == 0:
        return None
    if is_one_hot(vectors):
        return vectors.argmax(1)[:, None].astype(np.int64)
    levels = _levels(vectors)
    return levels if levels.max() < most else None


def positions(vectors: Vectors, bins: int = BINS) -> Symbols:
    """What stands at each place of messages ``[n, d]``, as symbols ``[n, L]``.

    The symbols of words; of other vectors each number as one of so many bins, with equal shares of
    the samples (or as it is, where it takes no more values than that).
    """
    words = as_words(vectors, bins)
    if words is not None or vectors.size == 0:
        return np.zeros(vectors.shape, dtype=np.int64) if words is None else words
    return np.stack([_binned(column, bins) for column in vectors.T], 1)


def is_one_hot(vectors: Vectors) -> bool:
    """Whether every row is 1 at one place and 0 elsewhere."""
    ones = (vectors == 1).sum(1)
    return bool((ones == 1).all() and ((vectors == 0).sum(1) == vectors.shape[1] - 1).all())


def _levels(values: NDArray[Any]) -> Symbols:
    """Numbers, in an array of any shape, by their rank; equal but for rounding errors is equal."""
    found, inverse = np.unique(values, return_inverse=True)
    rank = np.cumsum(np.diff(found, prepend=found[0]) > TOLERANCE * (float(values.std()) or 1.0))
    return rank[inverse].reshape(values.shape).astype(np.int64)


def _binned(values: NDArray[Any], bins: int) -> Symbols:
    levels = _levels(values)
    if levels.max() < bins:
        return levels
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def leading_components(vectors: ArrayLike, most: int) -> NDArray[np.float64]:
    """The leading principal components ``[n, most]`` of ``[n, d]``.

    With ``most`` columns or fewer, the columns themselves, each in its own standard deviations.
    """
    values = np.asarray(vectors, dtype=np.float64)
    centred = values - values.mean(0)
    if values.shape[1] <= most:
        spread = centred.std(0)
        return centred / np.where(spread > 0, spread, 1.0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    found: NDArray[np.float64] = left[:, :most] * size[:most]
    return found


class Centres:
    """A code for vectors: each stands for the nearest of ``K`` centres (k-means).

    Vectors that are symbols already, by :func:`as_symbols`, are their own centres.

    Args:
        vectors: ``[n, d]`` to place the centres by; n at least 1.
        most: K, at most.
        rng: where the search for centres begins.
    """

    def __init__(self, vectors: Vectors, most: int, rng: np.random.Generator) -> None:
        values = np.asarray(vectors, dtype=np.float64)
        spread = values.std(0)
        self._scale = np.where(spread > 0, spread, 1.0)
        found = as_symbols(values, most)
        if found is not None:
            self.values = found[1] / self._scale  # [K, d] in standard deviations
            return
        seed = int(rng.integers(2**31))
        means = KMeans(min(most, len(values)), n_init=1, random_state=seed)
        self.values = means.fit(values / self._scale).cluster_centers_

    def __call__(self, vectors: Vectors) -> Symbols:
        """The nearest centres of ``[…, d]``, ``[…]``."""
        values = np.asarray(vectors, dtype=np.float64) / self._scale
        flat = values.reshape(-1, values.shape[-1])
        # |v - c|² without |v|², which is the same for all centres
        far = (self.values**2).sum(1) - 2 * flat @ self.values.T
        return far.argmin(1).reshape(values.shape[:-1])

    @property
    def size(self) -> int:
        """K."""
        return len(self.values)
