"""Topographic similarity: compositional and constant codes, caps, the distances that are asked."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from dnicomm.communication import topographic_similarity

GRID = np.array(list(itertools.product(range(4), range(3), range(3))))  # [36, 3] attributes


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_compositional_code_scores_one(rng):
    names = np.array([2, 0, 3, 1])
    messages = np.stack([GRID[:, 2], names[GRID[:, 0]], GRID[:, 1]], 1)
    found = topographic_similarity(
        GRID, messages, rng, meaning_distance="hamming", message_distance="hamming"
    )
    assert found.value == pytest.approx(1.0)
    assert abs(found.chance) < 0.05
    assert found.chance_95 < 0.3


def test_one_hot_attributes_order_pairs_as_their_hamming_distance_does(rng):
    together = np.concatenate([np.eye(4)[GRID[:, 0]], np.eye(3)[GRID[:, 1]]], 1)
    messages = rng.standard_normal((36, 5))
    euclidean = topographic_similarity(together, messages, rng, permutations=0)
    hamming = topographic_similarity(
        GRID[:, :2], messages, rng, meaning_distance="hamming", permutations=0
    )
    assert euclidean.value == pytest.approx(hamming.value)


def test_a_scrambled_code_lies_within_chance(rng):
    messages = GRID[rng.permutation(36)]
    found = topographic_similarity(GRID, messages, rng)
    assert found.value < 0.25
    assert found.chance_95 < 0.3


@pytest.mark.parametrize("which", ["meanings", "messages"])
def test_constants_are_undefined_and_raise_nothing(rng, which):
    constant = np.ones((36, 2))
    pair = (constant, GRID) if which == "meanings" else (GRID, constant)
    found = topographic_similarity(*pair, rng)
    assert math.isnan(found.value)
    assert math.isnan(found.chance_95)


def test_too_few_and_unequal_numbers(rng):
    assert math.isnan(topographic_similarity(GRID[:2], GRID[:2], rng).value)
    with pytest.raises(ValueError, match="as many"):
        topographic_similarity(GRID, GRID[:-1], rng)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "cityblock", "hamming"])
def test_it_is_the_rank_correlation_of_the_distances_that_were_asked(rng, distance):
    meanings, messages = rng.standard_normal((20, 3)).round(1), rng.standard_normal((20, 4))
    found = topographic_similarity(
        meanings, messages, rng, meaning_distance=distance, message_distance="chebyshev"
    )
    true = spearmanr(pdist(meanings, distance), pdist(messages, "chebyshev")).statistic
    if math.isnan(true):  # by chance all numbers of all pairs differ
        assert math.isnan(found.value)
    else:
        assert found.value == pytest.approx(true)


def test_a_distance_of_ones_own(rng):
    messages = rng.standard_normal((20, 2))
    found = topographic_similarity(
        messages, messages, rng, message_distance=lambda a, b: 3 * np.linalg.norm(a - b) + 1
    )
    assert found.value == pytest.approx(1.0)


def test_pairs_are_capped_with_a_seeded_sample():
    meanings = np.random.default_rng(1).standard_normal((200, 2))
    messages = meanings + np.random.default_rng(2).standard_normal((200, 2))
    calls = []

    def counted(a, b):
        calls.append(1)
        return float(np.linalg.norm(a - b))

    found = [
        topographic_similarity(
            meanings, messages, np.random.default_rng(seed), message_distance=counted,
            most_pairs=100, permutations=0,
        )
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert found[0].samples == 14  # 91 pairs; one more would make 105
    assert len(calls) == 3 * 91
    assert found[0].value == found[1].value != found[2].value


def test_a_capped_sample_is_spread_over_worlds(rng):
    worlds = np.repeat(np.arange(20), 10)
    meanings = rng.standard_normal((20, 2))[worlds]  # each world says one thing ten times
    messages = rng.standard_normal((20, 2))[worlds]
    alike = topographic_similarity(meanings, messages, rng, most_pairs=190)
    spread = topographic_similarity(meanings, messages, rng, most_pairs=190, groups=worlds)
    assert alike.samples == spread.samples == 20
    one_each = topographic_similarity(meanings[::10], messages[::10], rng)
    assert spread.value == pytest.approx(one_each.value)
