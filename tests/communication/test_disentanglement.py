"""Disentanglement and context independence of codes whose values are known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dnicomm.communication import (
    bag_of_symbols_disentanglement,
    context_independence,
    mutual_information,
    positional_disentanglement,
)

GRID = np.array(list(itertools.product(range(4), range(4))))  # [16, 2] attributes
words = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, (n, 3), elements=st.integers(0, 2)),
        arrays(np.int64, (n, 2), elements=st.integers(0, 3)),
    )
)


def test_a_positional_code():
    names = np.array([3, 1, 0, 2])
    code = np.stack([names[GRID[:, 1]], GRID[:, 0]], 1)
    assert positional_disentanglement(GRID, code) == pytest.approx(1.0)
    assert context_independence(GRID, np.arange(16)) == pytest.approx(1 / 4)  # 16 names, 4 values


def test_a_bag_of_symbols():
    """Symbol 0 as often as the first attribute says, symbol 1 as the second, in any order."""
    rng = np.random.default_rng(0)
    bag = np.full((16, 6), 2)  # 2 means nothing
    for row, (first, second) in zip(bag, GRID, strict=True):
        row[:first], row[first : first + second] = 0, 1
        rng.shuffle(row)
    assert bag_of_symbols_disentanglement(GRID, bag, ignored=[2]) == pytest.approx(1.0)
    assert bag_of_symbols_disentanglement(GRID, bag) < 1  # how often 2 stands there tells of both
    assert positional_disentanglement(GRID, bag) < 0.5


def test_a_code_of_both_attributes_at_once_is_not_disentangled():
    code = (GRID[:, :1] + GRID[:, 1:]) % 4  # says nothing of either alone
    assert positional_disentanglement(GRID, code) == pytest.approx(0, abs=1e-12)
    whole = np.arange(16)[:, None]  # says all of both
    assert positional_disentanglement(GRID, whole) == pytest.approx(0, abs=1e-12)


def test_positions_that_never_change_are_left_out():
    code = np.stack([np.full(16, 7), GRID[:, 0]], 1)
    assert positional_disentanglement(GRID, code) == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [positional_disentanglement, bag_of_symbols_disentanglement])
def test_where_it_is_undefined(measure):
    assert math.isnan(measure(GRID, np.full((16, 3), 5)))  # constant: no division by zero
    assert math.isnan(measure(GRID[:, :1], GRID))  # one attribute has no second
    assert math.isnan(measure(GRID[:0], GRID[:0]))
    with pytest.raises(ValueError, match=r"\[n, L\]"):
        measure(GRID, GRID[:, 0])
    with pytest.raises(ValueError, match=r"\[n, L\]"):
        measure(GRID, GRID[:-1])


@given(words)
@settings(max_examples=60, deadline=None)
def test_it_is_what_the_definition_says(pair):
    """Position by position, with mutual information counted one pair at a time."""
    attributes, code = pair
    found = positional_disentanglement(attributes, code)
    gaps = []
    for j in range(code.shape[1]):
        size = mutual_information(code[:, j], code[:, j], corrected=False)
        if size > 0:
            told = sorted(mutual_information(a, code[:, j], corrected=False) for a in attributes.T)
            gaps.append((told[-1] - told[-2]) / size)
    if gaps:
        assert found == pytest.approx(np.mean(gaps), abs=1e-9)
        assert -1e-9 <= found <= 1 + 1e-9
    else:
        assert math.isnan(found)


@given(words, st.permutations(range(4)), st.permutations(range(3)))
@settings(max_examples=60, deadline=None)
def test_new_names_change_nothing(pair, symbols, columns):
    attributes, code = pair
    renamed = np.array(symbols)[code]
    for measure in (positional_disentanglement, bag_of_symbols_disentanglement):
        before, after = measure(attributes, code), measure(attributes[:, columns], renamed)
        assert after == pytest.approx(before, abs=1e-9, nan_ok=True)


def test_context_independence():
    colours = np.array([[0], [0], [1], [1]])
    assert context_independence(colours, np.array([5, 5, 6, 6])) == 1
    assert context_independence(colours, np.array([5, 7, 6, 6])) == pytest.approx(3 / 4)  # synonyms
    assert context_independence(colours, np.array([5, 5, 5, 5])) == pytest.approx(1 / 2)  # homonyms
    assert math.isnan(context_independence(np.zeros((3, 0)), np.arange(3)))
