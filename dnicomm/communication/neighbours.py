"""Mutual information of vectors from distances to nearest neighbours, in nats.

Both estimators take whole matrices of distances, so that a permutation of one side costs no new
distances. Memory grows with n²: a few hundred to a few thousand samples. They may come out below
zero where there is nothing to find.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import digamma

from dnicomm.communication.information import codes

Distances = NDArray[np.float64]
NEIGHBOURS = 3
JITTER = 1e-10  # of a deviation: equal samples have no nearest neighbour


def distances(samples: ArrayLike, rng: np.random.Generator) -> Distances:
    """Distances of samples ``[n, d]`` or ``[n]`` to each other by their largest difference.

    In standard deviations of the column that varies most. ``rng`` draws what tells equal samples
    apart.
    """
    values = np.asarray(samples, dtype=np.float64)
    values = values.reshape(len(values), -1)
    widest = values.std(0).max(initial=0.0)
    scaled = (values - values.mean(0)) / (widest if widest > 0 else 1.0)
    scaled = scaled + JITTER * rng.standard_normal(scaled.shape)
    return cdist(scaled, scaled, "chebyshev")


def information_of_vectors(x: Distances, y: Distances, neighbours: int = NEIGHBOURS) -> float:
    """Mutual information of two vectors, by their distances ``[n, n]`` each.

    The first estimator of Kraskov, Stögbauer and Grassberger (2004).
    """
    count = len(x)
    if count <= neighbours:
        return float("nan")
    both = np.maximum(x, y)
    np.fill_diagonal(both, np.inf)
    radius = np.partition(both, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
    # every sample is nearer to itself than its neighbours are: these counts are one too high,
    # and the formula wants one more than the neighbours
    terms = digamma((x < radius).sum(1)) + digamma((y < radius).sum(1))
    return float(digamma(neighbours) + digamma(count) - terms.mean())


def information_of_vector_and_symbol(
    x: Distances, symbols: NDArray[Any], neighbours: int = NEIGHBOURS
) -> float:
    """Mutual information of a vector and a symbol ``[n]``, by the vectors' distances ``[n, n]``.

    Ross (2014). Samples whose symbol came once have no neighbour of their kind and are left out;
    nan if no others remain.
    """
    labels, found = codes(symbols)
    size = np.bincount(labels, minlength=found)[labels]  # [n] samples of the same symbol
    kept = size > 1
    if not kept.all():
        x, labels, size = x[np.ix_(kept, kept)], labels[kept], size[kept]
    count = len(labels)
    if count == 0:
        return float("nan")
    k = np.minimum(neighbours, size - 1)
    alike = np.where(labels[:, None] == labels, x, np.inf)
    np.fill_diagonal(alike, np.inf)
    nearest = np.sort(np.partition(alike, int(k.max()) - 1, axis=1)[:, : k.max()], axis=1)
    radius = nearest[np.arange(count), k - 1]
    within = (x < radius[:, None]).sum(1)
    terms = digamma(count) + digamma(k) - digamma(size) - digamma(within)
    return float(terms.mean())
