"""Dependence beside chance: permutations, with groups of samples that belong together."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dnicomm.communication import Estimate, against_chance, deal, dependence, spread


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_independent_symbols_lie_within_chance(rng):
    within = 0
    for _ in range(40):
        found = dependence(rng.integers(5, size=300), rng.integers(4, size=300), rng)
        assert abs(found.value) < 0.06
        assert abs(found.chance) < 0.01
        within += found.value <= found.chance_95
    assert within >= 34  # of 40, where 38 are expected; all draws are seeded


@pytest.mark.parametrize("kinds", ["symbols", "vector and symbol", "vectors"])
def test_dependence_of_every_kind_is_found_beside_chance(rng, kinds):
    symbols = rng.integers(4, size=400)
    vectors = np.eye(4)[symbols] + 0.01 * rng.standard_normal((400, 4))
    x, y = {
        "symbols": (symbols, (symbols + 1) % 4),
        "vector and symbol": (vectors, symbols),
        "vectors": (vectors @ rng.standard_normal((4, 2)), 3 * vectors),
    }[kinds]
    for a, b in ((x, y), (y, x)):
        found = dependence(a, b, rng)
        assert found.value > 0.5
        assert abs(found.chance) < 0.05
        assert found.chance < found.chance_95 < 0.2
        assert found.samples == 400
    if kinds != "vectors":
        assert found.value == pytest.approx(math.log(4), abs=0.05)


def test_more_dimensions_than_four_are_looked_at_by_their_leading_components(rng):
    symbols = rng.integers(3, size=300)
    vectors = 0.01 * rng.standard_normal((300, 40))
    vectors[:, 17] += symbols
    assert dependence(vectors, symbols, rng).value == pytest.approx(math.log(3), abs=0.05)


def test_constants_tell_nothing_and_few_samples_are_not_asked(rng):
    constant, other = np.zeros((50, 3)), rng.integers(3, size=50)
    assert dependence(constant, other, rng) == Estimate(0, 0, 0, 50)
    assert dependence(other, np.full(50, 2), rng) == Estimate(0, 0, 0, 50)
    few = dependence(other[:19], other[:19], rng)
    assert math.isnan(few.value)
    assert few.samples == 19
    with pytest.raises(ValueError, match="as many"):
        dependence(other, other[:-1], rng)


def test_chance_is_left_out_where_nobody_asks_for_it(rng):
    found = dependence(np.arange(40) % 2, np.arange(40) % 2, rng, permutations=0)
    assert found.value == pytest.approx(math.log(2) + 1 / 80)  # one of three terms is left
    assert math.isnan(found.chance)
    assert math.isnan(against_chance(lambda order: math.nan, 5, rng).value)


def test_what_is_alike_within_a_world_is_no_dependence(rng):
    """Both sides constant in each of ten worlds: single samples shuffled call it certain."""
    worlds = np.repeat(np.arange(10), 30)
    x, y = rng.integers(5, size=10)[worlds], rng.integers(5, size=10)[worlds]
    fooled, aware = dependence(x, y, rng), dependence(x, y, rng, groups=worlds)
    assert fooled.value == aware.value > 0.3
    assert fooled.value > 5 * fooled.chance_95
    assert aware.value < aware.chance_95


groups_of = arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 6))


@given(groups_of, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_group_is_dealt_what_another_one_said(groups, seed):
    order = deal(groups, len(groups), np.random.default_rng(seed))
    assert len(order) == len(groups)
    for group in np.unique(groups):
        source = groups[order[groups == group]]
        assert len(np.unique(source)) == 1
        if len(np.unique(groups)) > 1 and len(np.unique(groups)) < len(groups):
            assert source[0] != group


def test_without_groups_chance_is_a_permutation(rng):
    for groups in (None, np.arange(30)):
        assert sorted(deal(groups, 30, rng)) == list(range(30))
    turned = deal(np.zeros(30), 30, rng)
    assert (np.diff(turned) % 30 == 1).all()


@given(groups_of, st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_samples_are_spread_over_groups(groups, most, seed):
    chosen = spread(groups, most, np.random.default_rng(seed))
    assert len(chosen) == min(most, len(groups))
    assert (np.diff(chosen) > 0).all()
    taken = np.bincount(groups[chosen], minlength=7)
    had = np.bincount(groups, minlength=7)
    # nobody is asked again before everybody who has more to say was asked as often
    assert all(taken[g] == had[g] or taken[g] >= taken.max() - 1 for g in range(7))
